"""How long runs waited for a worker, read from their journals. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from station.embedded.drills.history import Happening, RunRecord


@dataclass(frozen=True, kw_only=True)
class Death:
    """A process that was killed, or stopped past its leases, and when."""

    pid: int
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Reclaim:
    """Seconds from a worker's death until a run it held was free, and until it was claimed."""

    pid: int
    freed: float
    claimed: float


def reclaims(runs: Sequence[RunRecord], deaths: Sequence[Death]) -> list[Reclaim]:
    """How long each run of a worker that died waited for the next one.

    Runs that their keeper gave up are left out, and deaths after the run was free.
    """
    by_pid: dict[int, list[datetime]] = defaultdict(list)
    for death in deaths:
        by_pid[death.pid].append(death.at)
    found = []
    for run in runs:
        for claim, following in pairwise(run.of("run.claimed")):
            freed = _freed(run, claim, following)
            pid = owner(claim)
            died = [at for at in by_pid[pid] if freed and claim.at <= at <= freed.at]
            if freed and died:
                found.append(
                    Reclaim(
                        pid=pid,
                        freed=(freed.at - min(died)).total_seconds(),
                        claimed=(following.at - min(died)).total_seconds(),
                    )
                )
    return found


def waits(run: RunRecord) -> list[float]:
    """Seconds that the run could be claimed and was not: from its submission to its first claim,
    and from each time it was put back into the queue to the next."""
    found, since = [], None
    for each in run.journal:
        if each.kind == "run.claimed" and since is not None:
            found.append((each.at - since).total_seconds())
            since = None
        elif each.kind in {"run.submitted", "run.released", "run.decided"}:
            since = each.at
    return found


def owner(claim: Happening) -> int:
    """The process id of the worker that claimed; 0, nobody's, where the claim does not tell."""
    _, _, pid = str(claim.payload.get("worker", "")).rpartition(":")[0].rpartition(":")
    return int(pid) if pid.isdecimal() else 0


def _freed(run: RunRecord, claim: Happening, following: Happening) -> Happening | None:
    """The first time between two claims that a lease ran out."""
    for each in run.of("run.released"):
        expired = each.payload.get("reason") == "lease_expired"
        if expired and claim.seq < each.seq < following.seq:
            return each
    return None
