"""``station queue …``"""

from collections.abc import Sequence

from runs.models import Circuit, Worker
from runs.overview import CappedAgent, overview
from station.accounts import pausing
from station.accounts.commands.environments import environment_id, switch
from station.accounts.models import QueueSwitch
from station.commands import (
    Session,
    command,
    environment_option,
    group,
    json_option,
    show_json,
    table,
)
from station.commands.rendering import Painted, yes
from station.commands.text import age, count, one_line

group("queue", help="How the queue stands; pause and resume it.")


@command("queue", "status")
@environment_option()
@json_option
def show_status(session: Session, *, env: str | None, as_json: bool) -> None:
    """What waits, what runs, which caps are full, who works, and which model providers are down."""
    chosen = None if env is None else environment_id(session, env)
    seen = overview(session.principal, environment_id=chosen)
    if as_json:
        from runs.api.serializers import QueueSerializer  # noqa: PLC0415 - 0.2 s

        show_json(session, QueueSerializer(seen).data)
        return
    if seen.switch.paused:
        session.print(
            f"The whole queue is paused: {seen.switch.by} did that {age(seen.switch.since)}. "
            "`station queue resume` ends it.\n"
        )
    table(
        session,
        ["ENVIRONMENT", "QUEUED", "RUNNING", "CAP", "WAITING", "OLDEST QUEUED", "PAUSED"],
        (
            [state.environment, state.queued, state.running, state.max_running, state.waiting,
             age(state.oldest_queued_at), yes(state.paused)]
            for state in seen.environments
        ),
        right=["QUEUED", "RUNNING", "CAP", "WAITING"],
        empty="There is no environment yet.",
    )  # fmt: skip
    session.print()
    if seen.agents:
        _show_agents(session, seen.agents)
    if seen.circuits:
        _show_circuits(session, seen.circuits)
    _show_workers(session, seen.workers)


def _show_agents(session: Session, agents: Sequence[CappedAgent]) -> None:
    session.print("Agents with caps:")
    table(
        session,
        ["AGENT", "ENVIRONMENT", "QUEUED", "RUNNING", "CAP", "KEY", "PER KEY", "KEYS FULL",
         "PAUSED"],
        (
            [row.agent, row.environment, row.queued, row.running, row.max_running,
             row.concurrency_key, row.max_running_per_key,
             f"{row.keys_full} of {row.keys_running}" if row.concurrency_key else "",
             yes(row.paused)]
            for row in agents
        ),
        right=["QUEUED", "RUNNING", "CAP", "PER KEY", "KEYS FULL"],
        empty="",
    )  # fmt: skip
    session.print()


def _show_circuits(session: Session, circuits: Sequence[Circuit]) -> None:
    session.print("Runs wait for model providers that are down:")
    table(
        session,
        ["PROVIDER", "FAILURES", "LAST", "TRIED AGAIN", "PROBLEM"],
        (
            [circuit.provider, circuit.failures, age(circuit.failed_at), age(circuit.retry_at),
             one_line(circuit.problem, 60)]
            for circuit in circuits
        ),
        right=["FAILURES"],
        empty="",
    )  # fmt: skip
    session.print()


def _show_workers(session: Session, workers: Sequence[Worker]) -> None:
    if not workers:
        session.print("No worker is running: start one with `station worker`.")
        return
    free = sum(max(worker.slots - worker.busy, 0) for worker in workers if not worker.draining)
    session.print(f"{count(len(workers), 'worker')}, {count(free, 'slot')} free")
    table(
        session,
        ["WORKER", "STATE", "BUSY", "SLOTS", "STARTED", "HEARD OF"],
        (
            [worker.name, _state(draining=worker.draining), worker.busy, worker.slots,
             age(worker.started_at), age(worker.seen_at)]
            for worker in workers
        ),
        right=["BUSY", "SLOTS"],
        empty="",
    )  # fmt: skip


@command("queue", "pause")
@environment_option()
@json_option
def pause_queue(session: Session, *, env: str | None, as_json: bool) -> None:
    """Accept runs but start none; running ones go on.

    With --env like `station env pause`. Without it, in every environment, also in those made
    meanwhile; that is a switch of its own, beside those of environments. For platform admins.
    """
    if env is None:
        _tell(session, pausing.pause_queue(session.principal), as_json=as_json)
    else:
        switch(session, env, paused=True, as_json=as_json)


@command("queue", "resume")
@environment_option()
@json_option
def resume_queue(session: Session, *, env: str | None, as_json: bool) -> None:
    """Start runs again.

    With --env like `station env resume`. Without it, what `station queue pause` stopped;
    environments that are paused themselves stay so. For platform admins.
    """
    if env is None:
        _tell(session, pausing.resume_queue(session.principal), as_json=as_json)
    else:
        switch(session, env, paused=False, as_json=as_json)


def _tell(session: Session, found: QueueSwitch, *, as_json: bool) -> None:
    if as_json:
        from runs.api.serializers import QueueSwitchSerializer  # noqa: PLC0415 - 0.2 s

        show_json(session, QueueSwitchSerializer(found).data)
    elif found.paused:
        session.print("The whole queue is paused: runs wait in every environment.")
    else:
        session.print("The queue goes on: runs start, but in environments paused themselves.")


def _state(*, draining: bool) -> Painted:
    if draining:
        return Painted(text="draining", style="yellow")
    return Painted(text="working", style="green")
