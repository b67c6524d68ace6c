import io
import os
import threading

import pytest

from station.embedded.output import LINE_LIMIT, prefixed, pump


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_pumped(written: bytes) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    reading, writing = os.pipe()
    reader = threading.Thread(
        target=pump,
        args=(reading, "web", lambda name, line: seen.append((name, line)), threading.Lock()),
    )
    reader.start()
    with open(writing, "wb") as pipe:
        pipe.write(written)
    reader.join(10)
    return seen


def test_lines_carry_the_aligned_name_of_their_child() -> None:
    stream = io.StringIO()
    write = prefixed(["web", "worker"], stream)
    write("web", "hello")
    write("worker", "world")
    assert stream.getvalue() == "web    | hello\nworker | world\n"


def test_names_are_coloured_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, file = Terminal(), io.StringIO()
    prefixed(["web"], terminal)("web", "hello")
    prefixed(["web"], file)("web", "hello")
    assert "\033[" in terminal.getvalue()
    assert "\033[" not in file.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    prefixed(["web"], terminal)("web", "hello")
    assert terminal.getvalue() == "web | hello\n"


def test_every_line_is_handed_on_also_an_unfinished_one() -> None:
    assert lines_pumped(b"one\r\ntwo\n\nthree") == [
        ("web", "one"),
        ("web", "two"),
        ("web", ""),
        ("web", "three"),
    ]


def test_bytes_that_are_no_utf8_do_not_stop_the_output() -> None:
    assert [line for _, line in lines_pumped(b"\xff\nnext\n")] == ["\ufffd", "next"]


def test_an_endless_line_comes_in_pieces() -> None:
    seen = lines_pumped(b"x" * (LINE_LIMIT + 10) + b"\n")
    assert [len(line) for _, line in seen] == [LINE_LIMIT, 10]


def test_a_sink_that_fails_does_not_block_the_child() -> None:
    def closed(name: str, line: str) -> None:
        raise ValueError("I/O operation on closed file")

    reading, writing = os.pipe()
    reader = threading.Thread(target=pump, args=(reading, "web", closed, threading.Lock()))
    reader.start()
    with open(writing, "wb") as pipe:
        for _ in range(200):
            pipe.write(b"x" * 1000 + b"\n")
    reader.join(10)
    assert not reader.is_alive()
