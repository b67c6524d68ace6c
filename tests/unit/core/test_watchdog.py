"""A process whose loop stands still ends itself."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, re, time
from station.core.watchdog import keep_watch

async def main():
    watch = asyncio.create_task(keep_watch(1.0))
    await asyncio.sleep(0)
    {work}
    watch.cancel()

asyncio.run(main())
print("over")
"""


def carried_out(work: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", PROGRAM.format(work=work)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "work",
    ["time.sleep(600)", "re.match(r'^(a+)+$', 'a' * 60 + '!')"],
    ids=["a call that blocks", "a call that holds the interpreter"],
)
def test_a_loop_that_stands_still_ends_the_process_and_says_where(work: str) -> None:
    ended = carried_out(work)
    assert ended.returncode == 1
    assert "over" not in ended.stdout
    assert 'File "<string>", line 8 in main' in ended.stderr


def test_a_loop_that_turns_is_left_alone() -> None:
    ended = carried_out("[await asyncio.sleep(0.1) for _ in range(15)]; watch.cancel()")
    assert (ended.returncode, ended.stdout) == (0, "over\n")


def test_whoever_has_ended_the_watch_may_stand_still() -> None:
    ended = carried_out("watch.cancel(); await asyncio.wait([watch]); time.sleep(1.5)")
    assert (ended.returncode, ended.stdout) == (0, "over\n")
