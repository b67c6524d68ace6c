"""The gateway as a client's child process, on the pipes."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from mcpgw import stdio
from mcpgw.errors import KeyFileUnreadable
from runs.models import Run
from station.accounts import services
from station.core.errors import Unauthenticated
from tests.factories import OPERATOR
from tests.integration.mcpgw.client import claim, finish, in_database, text, until
from tests.integration.mcpgw.conftest import Tenant

PROGRAM = """
import sys
from pathlib import Path
import django
django.setup()
from mcpgw import stdio
key_file = Path(sys.argv[1]) if len(sys.argv) > 1 else None
print("stray output", flush=True)
stdio.serve(key_file)
"""


def environment(**more: str) -> dict[str, str]:
    """This process's, with the database that the test writes to."""
    url = urlsplit(os.environ["STN_DATABASE_URL"])
    own = url._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    settings = {"STN_DATABASE_URL": own, "DJANGO_SETTINGS_MODULE": "station.settings"}
    return {**os.environ, **settings, **more}


@asynccontextmanager
async def started(*arguments: str, **variables: str) -> AsyncIterator[Client]:
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-c", PROGRAM.replace('print("stray output", flush=True)', ""), *arguments],
        env=environment(**variables),
    )
    async with Client(parameters) as client:
        yield client


async def test_a_key_in_a_file_speaks_for_its_owner(alice: Tenant, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{alice.key}\n")
    async with started(str(path)) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert "agent_alice-env_alice-agent" in tools
        arguments = {"agent": "alice-agent", "task": "x", "wait_seconds": 20}
        call = asyncio.create_task(client.call_tool("run_agent", arguments))
        owned = await until(claim, "the run in the queue")
        await in_database(partial(finish, owned, "Done."))
        assert text(await call) == "Done."
        run = await in_database(lambda: Run.objects.get(pk=owned.run_id))
        assert run.submitted_by == "alice/test"
        await in_database(lambda: services.revoke_api_key(OPERATOR, key_id=alice.key[4:16]))
        refused = await client.call_tool("list_agents")
        assert refused.is_error
        assert refused.structured_content["error"]["code"] == "bad_api_key"


async def test_a_key_in_the_environment_works_too(alice: Tenant, bob: Tenant) -> None:
    async with started(STATION_API_KEY=bob.key) as client:
        listed = await client.call_tool("list_agents")
        assert [agent["name"] for agent in listed.structured_content["agents"]] == ["bob-agent"]


async def test_without_a_key_the_hosts_operator_sees_all(alice: Tenant, bob: Tenant) -> None:
    async with started() as client:
        listed = await client.call_tool("list_agents")
        names = {agent["name"] for agent in listed.structured_content["agents"]}
        assert names == {"alice-agent", "bob-agent"}


def test_a_bad_key_ends_it_before_it_serves(transactional_db: None) -> None:
    with pytest.raises(Unauthenticated):
        stdio.serve(environ={"STATION_API_KEY": "junk"})


@pytest.mark.parametrize("content", [None, "schlüssel"])
def test_a_key_file_that_cannot_be_read_is_said(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KeyFileUnreadable, match="key"):
        stdio.identity(path, {})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(transactional_db: None, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdin.write('{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
    process.stdin.flush()
    assert process.stdout.readline() == "stray output\n"
    assert '"id":1' in process.stdout.readline()
    process.send_signal(number)
    assert process.wait(20) == -number
    process.stdin.close()
    process.stdout.close()


def test_the_end_of_input_ends_it_well(transactional_db: None) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input="", env=environment(), timeout=30,
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
