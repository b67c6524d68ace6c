"""Standard error becomes bounded, redacted lines."""

from hypothesis import given
from hypothesis import strategies as st

from toolservers.redaction import MASK, Redactor
from toolservers.stderr import BURST, LINE_LIMIT, LINES_PER_SECOND, StderrLines


class Clock:
    """A clock that tests turn."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(
    *chunks: bytes, secrets: tuple[str, ...] = (), clock: Clock | None = None
) -> list[str]:
    found: list[str] = []
    lines = StderrLines(found.append, Redactor(secrets), clock=clock or Clock())
    for chunk in chunks:
        lines.feed(chunk)
    lines.end()
    return found


@given(st.lists(st.binary(min_size=0, max_size=20), max_size=20))
def test_lines_do_not_depend_on_how_the_stream_was_read(chunks: list[bytes]) -> None:
    assert lines_of(*chunks) == lines_of(b"".join(chunks))


def test_the_last_line_needs_no_newline() -> None:
    assert lines_of(b"one\ntwo") == ["one", "two"]


def test_an_endless_line_is_cut_and_the_next_one_is_whole() -> None:
    found = lines_of(*[b"x" * 10_000] * 1_000, b"\nnext\n")
    assert found == ["x" * LINE_LIMIT + " [cut]", "next"]


def test_a_flood_is_dropped_and_counted() -> None:
    found = lines_of(b"line\n" * 100_000)
    assert len(found) == BURST + 1
    assert found[-1] == f"[{100_000 - BURST} lines dropped: too many at once]"


def test_lines_pass_again_after_a_flood() -> None:
    clock = Clock()
    found: list[str] = []
    lines = StderrLines(found.append, Redactor(()), clock=clock)
    lines.feed(b"line\n" * (BURST + 5))
    clock.now += 1 / LINES_PER_SECOND
    lines.feed(b"calm\n")
    assert found[BURST:] == ["[5 lines dropped: too many at once]", "calm"]


def test_a_secret_is_masked_even_where_the_line_is_cut() -> None:
    secret = "hunter2-hunter2"
    found = lines_of(b"x" * (LINE_LIMIT - 5) + secret.encode() + b"\n", secrets=(secret,))
    assert "hunter2" not in found[0]


def test_a_secret_is_masked_when_it_arrives_in_two_reads() -> None:
    assert lines_of(b"key=hun", b"ter2\n", secrets=("hunter2",)) == [f"key={MASK}"]


def test_secrets_are_masked_line_by_line_escaped_and_quoted() -> None:
    secret = 'first "line"\nsecond line'
    redactor = Redactor((secret,))
    assert redactor.text('got first "line"') == f"got {MASK}"
    assert redactor.text(r'{"key": "first \"line\"\nsecond line"}') == f'{{"key": "{MASK}"}}'
    assert redactor.text("?key=first%20%22line%22") == f"?key={MASK}"
    assert redactor.json({"a": ["second line", 1, None]}) == {"a": [MASK, 1, None]}


def test_a_very_short_value_is_not_masked_everywhere() -> None:
    assert Redactor(("1",)).text("11 of 21") == "11 of 21"
