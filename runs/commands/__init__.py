"""The commands about runs and the queue, and those of ``station agent`` that make or read runs."""

from runs.commands import agents, cancelling, deciding, journal, queue, runs

__all__ = ["agents", "cancelling", "deciding", "journal", "queue", "runs"]
