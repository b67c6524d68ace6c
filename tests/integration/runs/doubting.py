"""A run that waits for a decision about two calls."""

from typing import Any

from runs import journal, queue, transitions
from runs.entries import Entry, Kind
from runs.models import Run

CALLS: list[dict[str, Any]] = [
    {"call_id": name, "tool": "s__write", "arguments": {"n": index}, "step": 1, "index": index}
    for index, name in enumerate(["c1", "c2"])
]


def doubt(calls: list[dict[str, Any]] | None = None) -> Run:
    """Claim the next queued run, and leave it in doubt about ``calls``."""
    asked = CALLS if calls is None else calls
    moved = queue.claim("w", 60)
    assert moved is not None
    wanted = [{"id": each["call_id"], "name": each["tool"], "arguments": "{}"} for each in asked]
    answered = Entry(
        kind=Kind.MODEL_ANSWERED,
        payload={
            "step": 1, "content": "", "tool_calls": wanted, "model": "scripted/demo",
            "finish_reason": "tool_calls", "input_tokens": 10, "output_tokens": 5,
            "cached_tokens": 0, "cost_usd": None, "duration": 0.2, "attempts": 1,
        },
    )  # fmt: skip
    journal.append(moved.run_id, moved.fence, [answered])
    assert transitions.wait(
        moved.run_id, moved.fence, reason="doubt", details={"calls": asked}, expires=60
    )
    return Run.objects.select_related("environment").get(pk=moved.run_id)
