"""Named points in the code at which a drill may end the process.

They do nothing: no setting, variable or request can make them do anything. A drill starts its own
worker through ``station.embedded.drills.worker``, which puts a function of its own in place of
:func:`point` before anything else runs. Callers write ``faults.point(…)``, so that they see it.
"""


def point(name: str) -> None:
    """The process has come to the point ``name``."""


POINTS = (
    "after-claim",
    "before-request",
    "after-request",
    "after-intent",
    "before-send",
    "after-send",
    "after-result",
    "before-finish",
    "after-finish",
)
"""Every point on the way of a run that calls a tool, in order."""
