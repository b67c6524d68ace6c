"""The commands about runs and the queue, and those of ``station agent`` that make or read runs."""

from runs.commands import agents, deciding, queue, runs

__all__ = ["agents", "deciding", "queue", "runs"]
