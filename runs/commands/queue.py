"""``station queue …``"""

from runs import queue
from station.accounts import environments
from station.accounts.commands.environments import environment_id
from station.accounts.services import visible_environments
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

_ALIVE = 15.0


@command("queue", "status")
@json_option
def show_status(session: Session, *, as_json: bool) -> None:
    """What waits, what runs, who works, and which model providers are down."""
    states = queue.states(visible_environments(session.principal))
    workers = list(queue.live_workers(within=_ALIVE))
    circuits = list(queue.open_circuits())
    if as_json:
        from runs.api.serializers import QueueSerializer  # noqa: PLC0415 - 0.2 s

        shown = {"environments": states, "workers": workers, "circuits": circuits}
        show_json(session, QueueSerializer(shown).data)
        return
    table(
        session,
        ["ENVIRONMENT", "QUEUED", "RUNNING", "CAP", "WAITING", "OLDEST QUEUED", "PAUSED"],
        (
            [state.environment, state.queued, state.running, state.max_running, state.waiting,
             age(state.oldest_queued_at), yes(state.paused)]
            for state in states
        ),
        right=["QUEUED", "RUNNING", "CAP", "WAITING"],
        empty="There is no environment yet.",
    )  # fmt: skip
    session.print()
    if circuits:
        session.print("Runs wait for model providers that are down:")
        table(
            session,
            ["PROVIDER", "FAILURES", "LAST", "TRIED AGAIN", "PROBLEM"],
            (
                [
                    circuit.provider,
                    circuit.failures,
                    age(circuit.failed_at),
                    age(circuit.retry_at),
                    one_line(circuit.problem, 60),
                ]
                for circuit in circuits
            ),
            right=["FAILURES"],
            empty="",
        )
        session.print()
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

    Without --env, every environment: for platform admins.
    """
    _switch(session, env, paused=True, as_json=as_json)


@command("queue", "resume")
@environment_option()
@json_option
def resume_queue(session: Session, *, env: str | None, as_json: bool) -> None:
    """Start runs again.

    Without --env, every environment: for platform admins.
    """
    _switch(session, env, paused=False, as_json=as_json)


def _switch(session: Session, env: str | None, *, paused: bool, as_json: bool) -> None:
    if env is None:
        rows = environments.switch_all(session.principal, paused=paused)
    else:
        chosen = environment_id(session, env)
        rows = [environments.update(session.principal, chosen, paused=paused)]
    if as_json:
        from runs.api.serializers import QueueStateSerializer  # noqa: PLC0415 - 0.2 s

        changed = visible_environments(session.principal).filter(pk__in=[row.pk for row in rows])
        shape = QueueStateSerializer()
        show_json(session, [shape.to_representation(each) for each in queue.states(changed)])
        return
    for row in rows:
        what = "paused: its runs wait" if paused else "active: its runs start"
        session.print(f"Environment {row.name} is {what}.")


def _state(*, draining: bool) -> Painted:
    if draining:
        return Painted(text="draining", style="yellow")
    return Painted(text="working", style="green")
