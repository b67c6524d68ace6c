from hypothesis import given
from hypothesis import strategies as st

from station.embedded.child import RestartPolicy, described


def test_the_delay_doubles_up_to_its_cap() -> None:
    policy = RestartPolicy(first_delay=0.5, max_delay=3.0)
    assert [policy.delay(failures) for failures in range(6)] == [0.5, 0.5, 1.0, 2.0, 3.0, 3.0]


@given(st.integers(0, 500))
def test_the_delay_never_passes_its_cap_nor_shrinks(failures: int) -> None:
    policy = RestartPolicy()
    assert policy.delay(failures) <= policy.delay(failures + 1) <= policy.max_delay


def test_an_exit_status_is_told_in_words() -> None:
    assert described(3) == "exited with status 3"
    assert described(-9) == "was killed by SIGKILL"
    assert described(-64) == "was killed by SIGRTMAX"
    assert described(-40) == "was killed by signal 40"
