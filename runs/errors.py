"""What can go wrong with runs."""

from typing import ClassVar

from station.core.errors import Conflict, InvalidInput, NotFound, StationError, Unavailable


class RunNotFound(NotFound):
    """There is no such run, or it is not visible to you."""

    code = "run_not_found"


class RunFinished(Conflict):
    """The run has ended already."""

    code = "run_finished"


class NotFinished(Conflict):
    """The run has not ended."""

    code = "run_not_finished"


class NothingToDecide(Conflict):
    """The run waits for no decision."""

    code = "nothing_to_decide"


class QueueFull(Unavailable):
    """The queue is full; nothing was stored."""

    code = "queue_full"


class IdempotencyKeyReused(InvalidInput):
    """The idempotency key was used for a different request."""

    code = "idempotency_key_reused"


class LeaseLost(StationError):
    """This worker no longer owns the run; whatever it still does must not count."""

    code = "lease_lost"


class RunFailure(StationError):
    """A run ends as failed, for a reason people can act on."""

    code = "run_failed"


class StepLimitReached(RunFailure):
    """The agent used all its steps without finishing."""

    code = "max_steps_reached"


class OutputInvalid(RunFailure):
    """The agent's answer does not match its output schema, even after being asked to mend it."""

    code = "output_invalid"


class ToolsUnavailable(RunFailure):
    """The agent's tools could not be made ready."""

    code = "tools_unavailable"


class WorkerCrashed(RunFailure):
    """Workers carrying this run died too often."""

    code = "worker_crashed"


class Errored(RunFailure):
    """Station has a bug that ended this run; the reference finds it in the worker's log."""

    code: ClassVar[str] = "errored"


class ToolOutcomeUnknown(StationError):
    """A tool call was sent and nobody knows whether it happened; a person has to decide."""

    code = "tool_outcome_unknown"
