import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from station.embedded.errors import SpawnFailed
from station.embedded.process import Command, GuardedProcess
from tests.integration.embedded.watching import eventually, family, living, written

PYTHON = sys.executable
# A child with a child of its own in another session, the way a daemon hides from its group.
WITH_DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1], "w") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "out.log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    yield descriptor
    os.close(descriptor)


def said(log: int) -> str:
    return os.pread(log, 100_000, 0).decode()


def test_the_exit_status_is_the_childs_own(log: int) -> None:
    process = GuardedProcess(Command(argv=[PYTHON, "-c", "raise SystemExit(7)"]), output=log)
    assert process.wait(20) == 7


def test_a_killing_signal_shows_as_a_negative_status(log: int) -> None:
    process = GuardedProcess(Command(argv=["sleep", "600"]), output=log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM


def test_the_pid_is_the_childs_own_and_not_its_guards(log: int) -> None:
    process = GuardedProcess(Command(argv=["sleep", "600"]), output=log)
    assert psutil.Process(process.pid).name() == "sleep"
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL


def test_input_output_environment_and_folder_reach_the_child(log: int, tmp_path: Path) -> None:
    code = "import os; print(input(), os.environ['X'], os.getcwd(), 'PATH' in os.environ)"
    command = Command(argv=[PYTHON, "-c", code], env={"X": "1"}, cwd=tmp_path, stdin=b"hello\n")
    assert GuardedProcess(command, output=log).wait(20) == 0
    assert said(log) == f"hello 1 {tmp_path} False\n"


def test_no_file_of_ours_is_open_in_the_child(log: int) -> None:
    code = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
    assert GuardedProcess(Command(argv=[PYTHON, "-c", code]), output=log).wait(20) == 0
    assert said(log) == "[0, 1, 2]\n"


def test_a_program_that_is_not_there_is_a_clear_error(log: int) -> None:
    with pytest.raises(SpawnFailed, match=r"/no/such/program: No such file"):
        GuardedProcess(Command(argv=["/no/such/program"]), output=log)


def test_what_a_child_leaves_behind_ends_with_it(log: int, tmp_path: Path) -> None:
    note = tmp_path / "daemon"
    command = Command(argv=[PYTHON, "-c", WITH_DAEMON, str(note), "0"])
    process = GuardedProcess(command, output=log)
    assert process.wait(20) == 0
    assert not psutil.pid_exists(int(written(note)))


def test_kill_reaches_descendants_in_sessions_of_their_own(log: int, tmp_path: Path) -> None:
    note = tmp_path / "daemon"
    process = GuardedProcess(
        Command(argv=[PYTHON, "-c", WITH_DAEMON, str(note), "600"]), output=log
    )
    everyone = [*family(process.guard_pid), psutil.Process(int(written(note)))]
    process.kill()
    assert process.wait(20) == -signal.SIGKILL
    assert not living(everyone)


def test_killing_the_guard_kills_the_child(log: int) -> None:
    process = GuardedProcess(Command(argv=["sleep", "600"]), output=log)
    child = psutil.Process(process.pid)
    os.kill(process.guard_pid, signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL
    assert eventually(lambda: not living([child]))


def test_a_signal_after_the_end_is_no_error(log: int) -> None:
    process = GuardedProcess(Command(argv=["true"]), output=log)
    assert process.wait(20) == 0
    process.send_signal(signal.SIGTERM)
    process.kill()


def test_an_orphan_gets_its_signal_and_a_grace(tmp_path: Path) -> None:
    note = tmp_path / "note"
    child = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    open(sys.argv[1], 'a').write('ended well\\n')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open(sys.argv[1], 'a').write('up\\n')\n"
        "time.sleep(600)\n"
    )
    parent = (
        "import os, signal, sys, time\n"
        "from station.embedded.process import Command, GuardedProcess\n"
        f"GuardedProcess(Command(argv=[sys.executable, '-c', {child!r}, {str(note)!r}],"
        " orphan_signal=signal.SIGTERM, orphan_grace=20), output=1)\n"
        "time.sleep(600)\n"
    )
    program = subprocess.Popen([PYTHON, "-c", parent])
    assert written(note) == "up\n"
    everyone = family(program.pid)
    program.kill()
    program.wait()
    assert eventually(lambda: not living(everyone))
    assert note.read_text() == "up\nended well\n"


def test_a_parent_thread_that_ends_takes_no_child_along(log: int) -> None:
    started: list[GuardedProcess] = []
    thread = threading.Thread(
        target=lambda: started.append(GuardedProcess(Command(argv=["sleep", "600"]), output=log))
    )
    thread.start()
    thread.join()
    assert started[0].wait(0.5) is None
    started[0].kill()
    assert started[0].wait(20) == -signal.SIGKILL


def test_the_child_ends_with_its_guard_while_the_parent_cannot_act(tmp_path: Path) -> None:
    note = tmp_path / "note"
    parent = (
        "import sys, time\n"
        "from station.embedded.process import Command, GuardedProcess\n"
        "child = GuardedProcess(Command(argv=['sleep', '600']), output=1)\n"
        "open(sys.argv[1], 'w').write(f'{child.guard_pid} {child.pid}\\n')\n"
        "time.sleep(600)\n"
    )
    program = subprocess.Popen([PYTHON, "-c", parent, str(note)])
    guard, child = map(psutil.Process, map(int, written(note).split()))
    program.send_signal(signal.SIGSTOP)
    guard.kill()
    assert eventually(lambda: not living([child]))
    program.kill()
    program.wait()
