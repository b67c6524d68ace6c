"""What can go wrong with agents."""

from station.core.errors import Conflict, NotFound


class AgentNotFound(NotFound):
    """There is no such agent, or it is not visible to you."""

    code = "agent_not_found"


class AgentDisabled(Conflict):
    """The agent is disabled and accepts no runs."""

    code = "agent_disabled"
