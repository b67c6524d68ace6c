"""Named points in the code at which a drill may end or stop the process.

They do nothing: no setting, variable or request can make them do anything. A drill starts its own
processes through ``station.embedded.drills.victim``, which puts a function of its own in place of
:func:`point` before anything else runs. Callers write ``faults.point(…)``, so that they see it.
"""


def point(name: str) -> None:
    """The process has come to the point ``name``."""


POINTS = (
    "after-submit",
    "after-claim",
    "before-request",
    "after-request",
    "after-intent",
    "before-send",
    "after-send",
    "after-result",
    "before-finish",
    "after-finish",
    "after-wait",
    "after-hand-back",
    "after-put-off",
    "after-release",
)
"""Every point: on the way of a run that calls a tool, in order; then on the other ways a worker
lets go of a run; then the keeper's."""
