"""``station demo``: one real run from the request to the answer, told step by step."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from runs.narration import Narrator
from station.commands.session import Session
from station.core.errors import StationError
from station.embedded.bootstrap import DEMO_ENVIRONMENT, DEMO_ROOT
from station.embedded.local import LocalStation, StationFolderInUse
from station.embedded.supervisor import Supervisor

_TASK = f"Look at this machine: load, memory, disks, and what takes most space under {DEMO_ROOT}."
_PATIENCE = 120.0
_RETRY = 0.5


class DemoFailed(StationError):
    """The demo did not come to its end."""

    code = "demo_failed"


def demo(folder: Path, session: Session) -> int:
    """Start a Station on free ports, carry one run through it, stop it. 0 when it succeeded."""
    begun = time.monotonic()

    def say(line: str) -> None:
        session.stdout.write(f"[{time.monotonic() - begun:5.1f} s] {line}\n")
        session.stdout.flush()

    with ExitStack() as stack:
        station = _open(folder, say, stack)
        first = station.set_up(key_name="demo", expires="1h")
        if first.demo_agent is None or first.api_key is None:
            raise DemoFailed(
                "The demo's tool server is not allowed by the configuration in STN_CONFIG.",
                fix="Unset STN_CONFIG for the demo.",
            )
        roles = ("web", "worker", "keeper", "ssh", "mcp")
        logs = station.logs
        say(f"starting {', '.join(roles)}; their logs are in {logs}")
        supervisor = Supervisor(
            station.children(roles),
            log_dir=logs,
            stop_together=True,
            on_output=lambda name, line: say(f"{name}: {line}"),
        )
        with supervisor:
            model = "a script (no AI is configured)" if station.scripted else "the configured AI"
            say(f"submitting a run of agent {first.demo_agent!r} over REST; its model is {model}")
            say(f"task: {_TASK}")
            ended = _carry(station.url, first.api_key, first.demo_agent, Narrator(session))
            say(f"the run ended: {ended['status']}; stopping what was started")
        stack.close()
        say("stopped")
    session.stdout.write(_next_steps(first.password, ended["status"]))
    return 0 if ended["status"] == "succeeded" else 1


def _open(folder: Path, say: Any, stack: ExitStack) -> LocalStation:
    """The Station of ``folder``, or a throw-away one when that one is running already."""
    try:
        return stack.enter_context(LocalStation(folder, fixed_ports=False, say=say))
    except StationFolderInUse:
        say(f"a Station is running in {folder}; the demo uses a throw-away folder")
        parent = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="station-demo-")))
        parent.chmod(0o711)
        station = LocalStation(parent / "data", fixed_ports=False, say=say)
        stack.callback(station.postgres.remove)
        return stack.enter_context(station)


def _carry(url: str, key: str, agent: str, narrator: Narrator) -> dict[str, Any]:
    """Submit the run over REST, tell its events as they come, return it as it ended."""
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"demo-{time.time_ns()}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        found = _checked(client.get(f"/api/v1/agents?environment={DEMO_ENVIRONMENT}&name={agent}"))
        path = f"/api/v1/agents/{found['items'][0]['id']}/runs"
        run = _checked(client.post(path, json={"input": _TASK}))
        for event in _events(client, run["id"]):
            if "delta" in event:
                narrator.delta(event["step"], event["delta"])
            else:
                narrator.event(event)
        return _checked(client.get(f"/api/v1/runs/{run['id']}"))


def _events(client: httpx.Client, run_id: int) -> Iterator[dict[str, Any]]:
    """The run's events from its live stream, taken up again where it breaks."""
    last, deadline = 0, time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        headers = {"Last-Event-ID": str(last)}
        try:
            with client.stream("GET", f"/api/v1/runs/{run_id}/stream", headers=headers) as stream:
                for line in stream.iter_lines():
                    if not line.startswith("data: "):
                        continue
                    event = json.loads(line.removeprefix("data: "))
                    last = event.get("seq", last)
                    yield event
                    if event.get("kind") == "run.finished":
                        return
        except httpx.TransportError:
            time.sleep(_RETRY)
    raise DemoFailed(
        f"The run did not end within {_PATIENCE:.0f} s.", fix="Look into the worker's log."
    )


def _checked(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    if response.is_error:
        raise DemoFailed(f"{response.request.url.path} answered {response.status_code}: {body}")
    return body


def _next_steps(password: str | None, status: str) -> str:
    if status != "succeeded":
        return "\nThe demo's run did not succeed; the logs say why.\n"
    login = f" as admin, password {password}" if password else " as admin"
    return (
        "\nNext:\n"
        f"  make up                    keeps it running; open the web admin it names{login}\n"
        "  .venv/bin/station --help   beside it: submit, follow, cancel and look after runs\n"
        "  export STN_AI_PROVIDER=openai STN_AI_MODEL=… STN_AI_API_KEY=…   to use a real AI\n"
    )
