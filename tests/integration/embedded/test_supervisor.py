import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from station.embedded.errors import ChildFailed
from station.embedded.ports import free_port
from station.embedded.probes import http_ready, tcp_ready
from station.embedded.supervisor import ChildSpec, RestartPolicy, Supervisor
from tests import stack
from tests.integration.embedded.watching import eventually, family, living, written

PYTHON = sys.executable
REPOSITORY = Path(__file__).parents[3]
QUICK = RestartPolicy(first_delay=0.01, max_delay=0.05, quick=60.0, give_up_after=3)
# Says when it is up and when it was told to stop, in a file that all children share.
POLITE = """
import signal, sys, time
def note(word):
    with open(sys.argv[2], "a") as file:
        file.write(f"{sys.argv[1]} {word}\\n")
def stop(*_):
    note("stopped")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
note("up")
time.sleep(600)
"""
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


class Heard:
    """Collects the lines of output."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def of(self, name: str) -> list[str]:
        return [line for said_by, line in self.lines if said_by == name]


def polite(name: str, diary: Path) -> ChildSpec:
    return ChildSpec(
        name=name,
        argv=[PYTHON, "-c", POLITE, name, str(diary)],
        ready=lambda: diary.exists() and f"{name} up" in diary.read_text(),
    )


def has_come_up(diary: Path, *, times: int) -> bool:
    return diary.read_text().count("up") == times


def program(name: str, code: str, *arguments: str, **options: object) -> ChildSpec:
    return ChildSpec(name=name, argv=[PYTHON, "-c", code, *arguments], **options)  # type: ignore[arg-type]


def test_children_start_in_order_and_stop_in_reverse_order(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    names = ["first", "second", "third"]
    with Supervisor([polite(name, diary) for name in names], on_output=Heard()) as supervisor:
        assert list(supervisor.pids()) == names
    assert diary.read_text().splitlines() == [
        *(f"{name} up" for name in names),
        *(f"{name} stopped" for name in reversed(names)),
    ]
    assert supervisor.pids() == {}


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    diary, heard = tmp_path / "diary", Heard()
    with Supervisor([polite("worker", diary)], on_output=heard, policy=QUICK) as supervisor:
        former = supervisor.pids()["worker"]
        os.kill(former, signal.SIGKILL)
        assert eventually(lambda: diary.read_text().count("up") == 2)
        assert supervisor.pids()["worker"] != former
    assert heard.of("station") == [
        "worker was killed by SIGKILL; starting it again in 0.01 s",
    ]


def test_a_child_that_keeps_failing_is_given_up_with_a_reason() -> None:
    heard = Heard()
    failing = program("web", "print('no database'); raise SystemExit(3)", ready=lambda: False)
    supervisor = Supervisor([failing], on_output=heard, policy=QUICK)
    with pytest.raises(ChildFailed, match=r"web exited with status 3, 3 times in a row: giving up"):
        supervisor.start()
    assert heard.of("web") == ["no database"] * 3
    assert supervisor.failure is not None


def test_a_child_that_ran_long_enough_is_not_counted_as_failing(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    lenient = RestartPolicy(first_delay=0.01, max_delay=0.01, quick=0.0, give_up_after=1)
    with Supervisor([polite("web", diary)], on_output=Heard(), policy=lenient) as supervisor:
        for turn in range(2, 5):
            os.kill(supervisor.pids()["web"], signal.SIGKILL)
            assert eventually(partial(has_come_up, diary, times=turn))
            assert eventually(lambda: "web" in supervisor.pids())
        assert supervisor.failure is None


def test_when_one_does_not_come_up_those_before_it_are_stopped(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    never = program("never", "import time; time.sleep(600)", ready=lambda: False, ready_timeout=0.3)
    after = polite("after", diary)
    supervisor = Supervisor([polite("first", diary), never, after], on_output=Heard())
    with pytest.raises(ChildFailed, match="never was not ready in time"):
        supervisor.start()
    assert diary.read_text().splitlines() == ["first up", "first stopped"]


def test_a_missing_program_is_named() -> None:
    missing = ChildSpec(name="x", argv=["/no/such/program"], ready=lambda: True)
    with pytest.raises(ChildFailed, match=r"x could not be started \(/no/such/program"):
        Supervisor([missing], on_output=Heard(), policy=QUICK).start()


def test_a_readiness_probe_that_raises_is_no_success() -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    child = program("x", "import time; time.sleep(600)", ready=broken)
    supervisor = Supervisor([child], on_output=Heard())
    unseen: list[object] = []
    former, threading.excepthook = threading.excepthook, unseen.append
    try:
        with pytest.raises(ChildFailed, match="cannot be watched"):
            supervisor.start()
    finally:
        threading.excepthook = former
    assert unseen


def test_a_child_that_ignores_the_stop_signal_is_killed_after_its_deadline() -> None:
    heard = Heard()
    supervisor = Supervisor([program("x", STUBBORN, stop_timeout=0.2)], on_output=heard)
    supervisor.start()
    assert eventually(lambda: heard.of("x") == ["up"])
    everyone = family(supervisor.pids()["x"])
    supervisor.stop()
    assert not living(everyone)
    assert heard.of("station") == ["x has not stopped yet: killing it"]


def test_a_variable_of_the_spec_is_added_to_the_environment() -> None:
    heard = Heard()
    code = "import os, time; print(os.environ['ADDED'], 'PATH' in os.environ); time.sleep(600)"
    with Supervisor([program("x", code, env={"ADDED": "yes"})], on_output=heard):
        assert eventually(lambda: heard.of("x") == ["yes True"])


def test_output_goes_to_files_when_asked(tmp_path: Path) -> None:
    heard, logs = Heard(), tmp_path / "logs"
    code = "import sys, time; print('out'); print('err', file=sys.stderr); time.sleep(600)"
    with Supervisor([program("x", code)], on_output=heard, log_dir=logs):
        assert eventually(lambda: (logs / "x.log").read_text() == "out\nerr\n")
    assert heard.of("x") == []


def test_two_children_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        Supervisor([program("x", ""), program("x", "")])


def test_the_tcp_probe_waits_for_a_listener() -> None:
    port = free_port()
    probe = tcp_ready("127.0.0.1", port)
    assert not probe()
    code = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1])))"
    code += "; time.sleep(600)"
    with Supervisor([program("x", code, str(port), ready=probe)], on_output=Heard()):
        assert probe()


def test_the_http_probe_wants_a_2xx() -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/ready?x=1" else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert http_ready(f"{address}/ready?x=1")()
        assert not http_ready(f"{address}/broken")()
        server.shutdown()
    assert not http_ready(f"{address}/ready?x=1")()


# The supervisor as a program of its own: signals, exit codes, sudden death.

PROGRAM = """
import json, sys
from station.embedded.supervisor import ChildSpec, RestartPolicy, Supervisor
children = [ChildSpec(**spec) for spec in json.loads(sys.argv[1])]
policy = RestartPolicy(first_delay=0.01, max_delay=0.01, give_up_after=2)
sys.exit(Supervisor(children, policy=policy).run())
"""


Supervise = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Starts supervisors as programs; none outlives the test, also not a failed one."""
    started = []

    def start(*children: dict[str, object]) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            [PYTHON, "-c", PROGRAM, json.dumps(children)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(program)
        return program

    yield start
    for program in started:
        program.kill()
        program.communicate()


def child(name: str, code: str, *arguments: str, **options: object) -> dict[str, object]:
    return {"name": name, "argv": [PYTHON, "-c", code, *arguments], **options}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_group_in_good_order_and_is_success(
    supervise: Supervise, tmp_path: Path, number: signal.Signals
) -> None:
    diary = tmp_path / "diary"
    program = supervise(
        child("one", POLITE, "one", str(diary)), child("two", POLITE, "two", str(diary))
    )
    assert eventually(lambda: diary.exists() and diary.read_text().count("up") == 2)
    everyone = family(program.pid)
    program.send_signal(number)
    output, _ = program.communicate(timeout=20)
    assert program.returncode == 0, output
    assert diary.read_text().splitlines()[2:] == ["two stopped", "one stopped"]
    assert not living(everyone)
    assert "station | stopping" in output


def test_a_second_signal_does_not_wait_for_the_deadline(supervise: Supervise) -> None:
    program = supervise(child("x", STUBBORN, stop_timeout=600))
    assert program.stdout is not None
    assert program.stdout.readline() == "x       | up\n"
    everyone = family(program.pid)
    program.send_signal(signal.SIGINT)
    assert program.stdout.readline() == "station | stopping\n"
    assert program.poll() is None
    program.send_signal(signal.SIGINT)
    program.communicate(timeout=20)
    assert program.returncode == 0
    assert not living(everyone)


def test_a_signal_during_the_start_is_obeyed_at_once(tmp_path: Path) -> None:
    up = tmp_path / "up"
    code = (
        "import sys\n"
        "from station.embedded.supervisor import ChildSpec, Supervisor\n"
        "argv = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "def never():\n"
        "    open(sys.argv[1], 'w').write('asked\\n')\n"
        "    return False\n"
        "spec = ChildSpec(name='x', argv=argv, ready=never, ready_timeout=600)\n"
        "sys.exit(Supervisor([spec]).run())\n"
    )
    program = subprocess.Popen([PYTHON, "-c", code, str(up)], stdout=subprocess.PIPE)
    written(up)
    everyone = family(program.pid)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=20)
    assert program.returncode == 0
    assert not living(everyone)


def test_giving_a_child_up_ends_the_group_with_status_1(
    supervise: Supervise, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    program = supervise(
        child("good", POLITE, "good", str(diary)),
        child("bad", "import time; time.sleep(0.5); raise SystemExit('broken')"),
    )
    output, _ = program.communicate(timeout=30)
    assert program.returncode == 1
    assert "bad exited with status 1, 2 times in a row: giving up." in output
    assert output.count("bad     | broken") == 2


def hidden_daemon(note: Path) -> str:
    return (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        f"    open({str(note)!r}, 'w').write(f'{{os.getpid()}}\\n')\n"
        "time.sleep(600)\n"
    )


def test_nothing_lives_on_after_the_supervisor_was_killed(
    supervise: Supervise, tmp_path: Path
) -> None:
    note, diary = tmp_path / "note", tmp_path / "diary"
    program = supervise(
        child("stubborn", STUBBORN),
        child("parent", hidden_daemon(note)),
        child("polite", POLITE, "polite", str(diary)),
    )
    written(diary)
    daemon = psutil.Process(int(written(note)))
    everyone = [*family(program.pid), daemon]
    assert len(everyone) >= 8  # supervisor, three guards, three children, one daemon
    program.kill()
    assert eventually(lambda: not living(everyone), seconds=10)


GUNICORN = (
    "-m", "gunicorn", "--no-control-socket", "--workers", "2", "--chdir", "{folder}",
    "--bind", "127.0.0.1:{port}", "app:app",
)  # fmt: skip
CELERY = (
    "-m", "celery", "--workdir", "{folder}", "-A", "app", "-b", "{redis}", "worker",
    "--pool", "prefork", "--concurrency", "2", "--without-mingle", "--without-gossip",
)  # fmt: skip


@pytest.mark.parametrize(("arguments", "processes"), [(GUNICORN, 3), (CELERY, 3)])
def test_real_servers_with_workers_of_their_own_are_gone_too(
    supervise: Supervise, tmp_path: Path, arguments: Sequence[str], processes: int
) -> None:
    (tmp_path / "app.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'']\n"
        if arguments is GUNICORN
        else "from celery import Celery\napp = Celery('app')\n"
    )
    values = {"folder": tmp_path, "port": free_port(), "redis": stack.services.redis_url}
    argv = [PYTHON, *(argument.format(**values) for argument in arguments)]
    program = supervise({"name": "server", "argv": argv})
    # the supervisor, the guard, the master and its workers
    assert eventually(lambda: len(family(program.pid)) >= 2 + processes, seconds=60)
    everyone = family(program.pid)
    program.kill()
    assert eventually(lambda: not living(everyone), seconds=10)
