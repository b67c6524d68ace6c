"""Commands over SSH: their streams, their exit status, their end."""

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest

from sshgw.metrics import CONNECTIONS
from station.accounts.models import User
from station.commands.registry import invoke
from station.config import current
from tests import factories
from tests.integration.sshgw.client import Commands, Key, Ssh, interrupt, running, until


def test_words_and_streams_arrive_as_they_were_sent(ssh: Ssh) -> None:
    answer = ssh("echo", "'two words'", "ünï", '"a\\"b"')
    assert answer.stdout == 'two words|ünï|a"b\n'
    assert answer.stderr == "aside\n"


@pytest.mark.parametrize("code", [0, 1, 5, 130])
def test_the_exit_status_is_the_commands(ssh: Ssh, code: int) -> None:
    assert ssh("exit", str(code)).code == code


def test_the_programs_own_name_may_come_first(ssh: Ssh) -> None:
    assert ssh("station", "exit", "3").code == 3
    assert ssh("station").stdout == "help\n"


def test_a_megabyte_of_output_arrives_whole(ssh: Ssh) -> None:
    answer = ssh("much", str(1024 * 1024))
    assert answer.code == 0
    assert answer.stdout.splitlines() == [f"{n:063}" for n in range(16 * 1024)]


def test_standard_input_is_read_to_its_end(ssh: Ssh) -> None:
    assert ssh("read", stdin="héllo\n").stdout == "got 'héllo\\n'\n"
    assert ssh("read", options=["-n"]).stdout == "got ''\n"


def test_a_quote_that_never_ends_is_wrong_usage(ssh: Ssh) -> None:
    answer = ssh("echo 'oops")
    assert answer.code == 2
    assert answer.stderr == "That command cannot be read: No closing quotation.\n"


def test_a_bug_fails_that_command_only(ssh: Ssh) -> None:
    assert ssh("bug").code == 1
    assert ssh("whoami").code == 0


def test_a_terminal_tells_its_width_and_gets_carriage_returns(ssh: Ssh) -> None:
    command = "stty cols 133; " + " ".join(ssh.argv("width", options=["-tt"]))
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        env={"TERM": "xterm", "PATH": os.environ["PATH"]},
    )
    assert done.stdout.splitlines() == ["133 True True None"]


def test_commands_run_side_by_side(ssh: Ssh) -> None:
    processes = [ssh.start("meet") for _ in range(5)]
    for process in processes:
        out, _ = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "True\n")


def test_one_connection_carries_several_channels_but_not_any_number(ssh: Ssh, key: Key) -> None:
    with paramiko.Transport(("127.0.0.1", ssh.port)) as transport:
        transport.connect(username="alice", pkey=paramiko.PKey.from_path(key.path))
        channels = [transport.open_session(timeout=5) for _ in range(10)]
        with pytest.raises(paramiko.ChannelException):
            transport.open_session(timeout=5)
        channels.pop().close()
        until(lambda: _opens(transport), "a place for another channel")


def _opens(transport: paramiko.Transport) -> bool:
    try:
        transport.open_session(timeout=5).close()
    except paramiko.ChannelException:
        return False
    return True


def test_a_request_is_answered_before_its_command_ends(
    alice: User, commands: Commands, key: Key
) -> None:
    """Clients that wait for the answer would take its absence for a failure."""
    seen: list[str] = []

    def note(name: str, handle: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        def noting(channel: Any, message: Any) -> None:
            seen.append(name)
            handle(channel, message)

        return noting

    class Watching(paramiko.Transport):
        _channel_handler_table = {
            **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
            99: note("answer", paramiko.Channel._request_success),  # type: ignore[attr-defined]
            97: note("close", paramiko.Channel._handle_close),  # type: ignore[attr-defined]
        }

    # A refused command is the quickest: it ends in the thread that answers.
    with (
        running(commands, most_commands=0) as gateway,
        Watching(("127.0.0.1", gateway.port)) as transport,
    ):
        transport.connect(username="alice", pkey=paramiko.PKey.from_path(key.path))
        channel = transport.open_session(timeout=5)
        channel.exec_command("whoami")
        assert channel.recv_exit_status() == 1
        assert b"too many commands" in channel.recv_stderr(1000)
        until(lambda: channel.closed, "the close")
    assert seen == ["answer", "close"]
    assert commands.sessions == []


# --- the end ------------------------------------------------------------------------------------


def test_a_client_that_leaves_cancels_its_command(ssh: Ssh, commands: Commands) -> None:
    process = ssh.start("follow")
    assert commands.waiting.acquire(timeout=20)
    interrupt(process)
    process.communicate(timeout=20)
    assert commands.cancelled.wait(20)


def test_a_signal_sent_to_the_command_cancels_it(ssh: Ssh, commands: Commands, key: Key) -> None:
    with paramiko.Transport(("127.0.0.1", ssh.port)) as transport:
        transport.connect(username="alice", pkey=paramiko.PKey.from_path(key.path))
        channel = transport.open_session(timeout=5)
        channel.exec_command("follow")
        assert commands.waiting.acquire(timeout=20)
        message = paramiko.Message()
        message.add_bytes(b"\x62")
        message.add_int(channel.remote_chanid)
        message.add_string("signal")
        message.add_boolean(False)
        message.add_string("INT")
        transport._send_message(message)  # type: ignore[attr-defined]
        assert channel.recv_exit_status() == 130


def test_ctrl_c_in_a_terminal_cancels_the_command(ssh: Ssh, commands: Commands, key: Key) -> None:
    with paramiko.Transport(("127.0.0.1", ssh.port)) as transport:
        transport.connect(username="alice", pkey=paramiko.PKey.from_path(key.path))
        channel = transport.open_session(timeout=5)
        channel.get_pty()
        channel.exec_command("follow")
        assert commands.waiting.acquire(timeout=20)
        channel.send(b"\x03")
        assert channel.recv_exit_status() == 130


def test_output_is_seen_when_it_is_flushed_not_at_the_end(ssh: Ssh) -> None:
    process = ssh.start("follow")
    assert process.stdout is not None
    assert process.stdout.readline() == "following\n"
    interrupt(process)
    process.communicate(timeout=20)


def test_a_stop_lets_a_command_finish_and_refuses_new_ones(
    alice: User, commands: Commands, key: Key
) -> None:
    release = threading.Event()

    def slow(argv: list[str], session: object) -> int:
        commands.waiting.release()
        release.wait(20)
        return 7

    with running(slow) as gateway:  # type: ignore[arg-type]
        ssh = Ssh(port=gateway.port, key=key, user="alice")
        process = ssh.start("anything")
        assert commands.waiting.acquire(timeout=20)
        threading.Timer(1.5, release.set).start()
    process.communicate(timeout=20)
    assert process.returncode == 7
    assert ssh("anything").code == 255


def test_the_gauge_counts_connections(ssh: Ssh, commands: Commands) -> None:
    assert CONNECTIONS._value.get() == 0
    process = ssh.start("follow")
    assert commands.waiting.acquire(timeout=20)
    assert CONNECTIONS._value.get() == 1
    interrupt(process)
    process.communicate(timeout=20)
    until(lambda: CONNECTIONS._value.get() == 0, "the gauge at 0")


# --- the real commands --------------------------------------------------------------------------


def test_operator_commands_run_with_the_key_owners_rights(alice: User, key: Key) -> None:
    factories.environment("secret-place")
    with running(invoke) as gateway:
        ssh = Ssh(port=gateway.port, key=key, user="alice")
        answer = ssh("env", "list", "--json")
        assert answer.code == 0
        assert "secret-place" not in answer.stdout
        assert ssh("env", "create", "mine").code == 4
        User.objects.filter(pk=alice.pk).update(is_superuser=True)
        assert "secret-place" in str(json.loads(ssh("env", "list", "--json").stdout))


@pytest.mark.parametrize("host_only", ["server", "migrate", "web", "up", "ssh"])
def test_commands_of_the_host_are_not_reachable(alice: User, key: Key, host_only: str) -> None:
    with running(invoke) as gateway:
        answer = Ssh(port=gateway.port, key=key, user="alice")(host_only)
    assert answer.code == 2
    assert f"No such command '{host_only}'" in answer.stderr


def test_the_commands_session_is_not_the_hosts(
    ssh: Ssh, commands: Commands, tmp_path: Path
) -> None:
    ssh("whoami")
    assert commands.sessions[0].host is False


def test_open_connections_hold_no_database_connection(alice: User, key: Key) -> None:
    """More of them than the pool has connections; a kept one would starve the last."""
    assert current().database.max_connections < 25
    with running(invoke) as gateway, contextlib.ExitStack() as held:
        for _ in range(25):
            transport = held.enter_context(paramiko.Transport(("127.0.0.1", gateway.port)))
            transport.connect(username="alice", pkey=paramiko.PKey.from_path(key.path))
            channel = transport.open_session(timeout=5)
            channel.exec_command("env list --json")
            assert channel.recv_exit_status() == 0


def test_a_run_is_followed_until_the_client_leaves(alice: User, key: Key) -> None:
    run = factories.run()
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    with running(invoke) as gateway:
        ssh = Ssh(port=gateway.port, key=key, user="alice")
        assert json.loads(ssh("run", "list", "--json").stdout)
        process = ssh.start("run", "follow", str(run.pk))
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"run {run.pk} ")
        interrupt(process)
        process.communicate(timeout=20)
        until(lambda: not gateway._commands, "the end of the command")
