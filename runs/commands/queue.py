"""``station queue …``"""

from runs import queue
from station.accounts.services import visible_environments
from station.commands import Session, command, group, json_option, show_json, table
from station.commands.rendering import Painted, yes
from station.commands.text import age, count

group("queue", help="How the queue stands.")

_ALIVE = 15.0


@command("queue", "status")
@json_option
def show_status(session: Session, *, as_json: bool) -> None:
    """What waits, what runs, and who works."""
    states = queue.states(visible_environments(session.principal))
    workers = list(queue.live_workers(within=_ALIVE))
    if as_json:
        from runs.api.serializers import QueueSerializer  # noqa: PLC0415 - 0.2 s

        show_json(session, QueueSerializer({"environments": states, "workers": workers}).data)
        return
    table(
        session,
        ["ENVIRONMENT", "QUEUED", "RUNNING", "WAITING", "OLDEST QUEUED", "PAUSED"],
        (
            [state.environment, state.queued, state.running, state.waiting,
             age(state.oldest_queued_at), yes(state.paused)]
            for state in states
        ),
        right=["QUEUED", "RUNNING", "WAITING"],
        empty="There is no environment yet.",
    )  # fmt: skip
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


def _state(*, draining: bool) -> Painted:
    if draining:
        return Painted(text="draining", style="yellow")
    return Painted(text="working", style="green")
