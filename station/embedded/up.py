"""``station up``: Station on this machine, with PostgreSQL and Valkey of its own."""

from pathlib import Path

from station.commands.session import Session
from station.embedded.local import LocalStation
from station.embedded.supervisor import Supervisor


def up(folder: Path, session: Session) -> int:
    """Start everything, print where it is and how to get in, and run until a signal comes."""
    stream = session.stdout

    def say(line: str) -> None:
        stream.write(f"==> {line}\n")
        stream.flush()

    with LocalStation(folder, fixed_ports=True, say=say) as station:
        first = station.set_up(key_name="first key")
        say(f"starting Station's processes; their logs are in {station.logs}")
        supervisor = Supervisor(
            station.children(),
            log_dir=station.logs,
            stop_together=True,
            on_output=lambda name, line: say(f"{name}: {line}"),
        )
        url, ports = station.url, station.ports
        lines = [
            "",
            f"  web admin   {url}/admin/",
            f"  REST API    {url}/api/v1/docs",
            f"  SSH         ssh -p {ports['ssh']} {first.username}@127.0.0.1   "
            "(after `station key ssh-add`)",
            f"  MCP         http://127.0.0.1:{ports['mcp']}/mcp",
            "",
            f"  user        {first.username}",
            f"  password    {first.password}   (shown this once)"
            if first.password
            else f"  password    as set; `station user password {first.username}` resets it",
            f"  API key     {first.api_key}   (shown this once)"
            if first.api_key
            else "  API key     as created; `station key create` makes another",
            "",
        ]
        if station.scripted:
            lines += [
                "  No AI is configured: agents talk to a script that says so. Set STN_AI_PROVIDER,",
                "  STN_AI_MODEL and STN_AI_API_KEY and start again to use a real model.",
                "",
            ]
        lines.append("  Ctrl-C stops everything; the data stays.\n")
        stream.write("\n".join(lines))
        stream.flush()
        return supervisor.run()
