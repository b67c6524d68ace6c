"""The scripted model server as a process and on the wire."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runs.scripted.testing import ScriptedModel

COMMAND = [sys.executable, "-m", "runs.scripted"]
HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def scenario(*turns: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "m", "turns": list(turns)}]


def address_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    line = process.stdout.readline()
    assert line.startswith("listening on http://127.0.0.1:")
    return str(line.split()[-1])


@pytest.fixture
def process() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def test_the_process_says_where_it_listens_and_ends_on_sigterm(
    process: "subprocess.Popen[str]",
) -> None:
    url = address_of(process)
    models = httpx.get(f"{url}/models").json()
    assert [model["id"] for model in models["data"]] == ["scripted-demo"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0


def test_it_ends_on_sigterm_also_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    file = tmp_path / "slow.json"
    file.write_text(json.dumps({"scenarios": scenario({"delay": "1h"})}))
    command = [*COMMAND, "--scenario", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = int(address_of(process).split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as asking:
            body = json.dumps(HELLO).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            asking.sendall(head.encode() + body)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().split()[-1], flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("asked", [True, False])
def test_it_dies_with_a_killed_parent_only_when_asked(asked: bool) -> None:
    option = ["--die-with-parent"] if asked else []
    command = [sys.executable, "-c", PARENT, *COMMAND, *option]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid, url = parent.stdout.readline().split()
        parent.kill()
        parent.wait()
    try:
        gone = _gone_within(int(pid), 5.0 if asked else 0.5)
        assert gone is asked
        if not asked:
            assert httpx.get(f"{url}/models").status_code == 200
    finally:
        if not asked:
            os.kill(int(pid), signal.SIGKILL)


def _gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_wrong_scenario_file_ends_it_with_one_line_and_code_2(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("scenarios: [{name: x, turns: [{sya: hello}]}]")
    done = subprocess.run(
        [*COMMAND, "--scenario", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "scenarios.0.turns.0.sya" in done.stderr


def test_every_response_says_that_it_is_a_script() -> None:
    with ScriptedModel(scenario({"say": "hi"})) as model, httpx.Client() as http:
        answers = [
            http.post(f"{model.base_url}/chat/completions", json=HELLO),
            http.post(f"{model.base_url}/chat/completions", json={**HELLO, "stream": True}),
            http.get(f"{model.base_url}/models"),
            http.get(model.base_url.removesuffix("/v1") + "/"),
            http.get(f"{model.base_url}/nothing"),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404]
    assert all("script" in answer.headers["x-scripted"] for answer in answers)
    assert answers[0].json()["system_fingerprint"] == "scripted-no-ai"
    assert "no AI" in answers[3].text


def test_the_same_request_gets_the_same_reply_and_conversations_interleave() -> None:
    turns = scenario({"say": "first {{input}}"}, {"say": "second {{input}}"})
    with ScriptedModel(turns) as model, httpx.Client() as http:

        def said(task: str, past: int) -> str:
            messages = [{"role": "user", "content": task}]
            messages += [{"role": "assistant", "content": "x"}] * past
            body = {"model": "m", "messages": messages}
            answer = http.post(f"{model.base_url}/chat/completions", json=body)
            return str(answer.json()["choices"][0]["message"]["content"])

        assert said("a", 0) == said("a", 0) == "first a"
        assert said("b", 1) == "second b"
        assert said("a", 1) == "second a"
        assert said("b", 0) == "first b"


def test_a_fault_with_times_is_counted_for_each_request() -> None:
    turns = scenario({"say": "ok", "error": {"status": 429, "retry_after": 3, "times": 1}})
    with ScriptedModel(turns) as model, httpx.Client() as http:

        def status(task: str) -> int:
            body = {"model": "m", "messages": [{"role": "user", "content": task}]}
            answer = http.post(f"{model.base_url}/chat/completions", json=body)
            assert (answer.headers.get("retry-after") == "3.0") is (answer.status_code == 429)
            return answer.status_code

        assert [status("a"), status("b"), status("a"), status("b")] == [429, 429, 200, 200]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "unknown", "messages": []}, 404, "model_not_found"),
        ({"model": "m", "messages": [{"role": "assistant"}] * 5}, 400, "script_ended"),
        ({"model": "m"}, 400, None),
        ({"messages": []}, 400, None),
        ([], 400, None),
    ],
)
def test_a_request_without_a_turn_is_an_error_in_the_protocols_shape(
    body: Any, status: int, code: str | None
) -> None:
    with ScriptedModel(scenario({"say": "x"})) as model:
        answer = httpx.post(f"{model.base_url}/chat/completions", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 3\r\n\r\n{oo",
        b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 100_000,
    ],
)
def test_bytes_that_are_no_request_get_400_and_the_server_lives(sent: bytes) -> None:
    with ScriptedModel(scenario({"say": "x"})) as model:
        port = int(model.base_url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(sent)
            assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert httpx.post(f"{model.base_url}/chat/completions", json=HELLO).status_code == 200


def test_a_chunked_request_is_read() -> None:
    body = json.dumps(HELLO).encode()

    def parts() -> Iterator[bytes]:
        yield body[:10]
        yield body[10:]

    with ScriptedModel(scenario({"say": "x"})) as model:
        answer = httpx.post(f"{model.base_url}/chat/completions", content=parts())
    assert answer.status_code == 200


async def test_five_hundred_delayed_requests_are_held_at_once(tmp_path: Path) -> None:
    file = tmp_path / "slow.yaml"
    file.write_text("scenarios: [{name: m, turns: [{say: done, delay: 1s}]}]")
    command = [*COMMAND, "--scenario", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = int(address_of(process).split(":")[2].split("/")[0])
        before = _cpu_seconds(process.pid)
        started = time.monotonic()
        answers = await asyncio.gather(*(_ask(port) for _ in range(500)))
        wall, used = time.monotonic() - started, _cpu_seconds(process.pid) - before
        process.terminate()
    assert all(b"done" in answer for answer in answers)
    assert wall < 10  # one after the other they would take 500 s
    assert used < 2.5  # 5 ms each, several times what was measured


async def _ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(HELLO).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
