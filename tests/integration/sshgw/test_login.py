"""Who gets in, and under which name, by the word of the real OpenSSH client."""

import re
import socket
from datetime import timedelta
from pathlib import Path

import paramiko
import pytest
from django.utils import timezone

from station.accounts import services
from station.accounts.models import SshKey, User
from tests.factories import OPERATOR
from tests.integration.sshgw.client import Commands, Key, Ssh, make_key, running, until

DENIED = "Permission denied (publickey)"


def test_a_registered_key_runs_a_command_as_its_owner(ssh: Ssh) -> None:
    answer = ssh("whoami")
    assert (answer.code, answer.stdout) == (0, "ssh_key alice/laptop False\n")


def test_the_shared_username_stands_for_whoever_owns_the_key(ssh: Ssh) -> None:
    assert ssh("whoami", user="station").stdout == "ssh_key alice/laptop False\n"


def test_a_platform_admin_stays_one(ssh: Ssh, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    assert ssh("whoami").stdout == "ssh_key alice/laptop True\n"


@pytest.mark.parametrize("kind", [("ecdsa", "-b", "256"), ("rsa", "-b", "3072")])
def test_other_kinds_of_keys_work_too(ssh: Ssh, tmp_path: Path, kind: tuple[str, ...]) -> None:
    mine = make_key(tmp_path, "other", *kind)
    services.add_ssh_key(OPERATOR, public_key=mine.public, username="alice", name="other")
    assert ssh("whoami", key=mine).stdout == "ssh_key alice/other False\n"


def test_an_unknown_key_is_refused(ssh: Ssh, other_key: Key) -> None:
    answer = ssh("whoami", key=other_key)
    assert answer.code == 255
    assert DENIED in answer.stderr


def test_the_key_does_not_open_another_users_name(ssh: Ssh) -> None:
    services.create_user(OPERATOR, username="bob")
    assert DENIED in ssh("whoami", user="bob").stderr


@pytest.mark.parametrize(
    "change",
    [
        {"revoked_at": timezone.now()},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
    ],
)
def test_a_revoked_or_expired_key_is_refused(ssh: Ssh, change: dict[str, object]) -> None:
    SshKey.objects.update(**change)
    assert DENIED in ssh("whoami").stderr


def test_the_key_of_a_disabled_user_is_refused(ssh: Ssh, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert DENIED in ssh("whoami").stderr


def test_a_password_is_not_even_asked_for(ssh: Ssh, alice: User) -> None:
    answer = ssh("-v", options=["-oPreferredAuthentications=password,keyboard-interactive"])
    assert answer.code == 255
    assert DENIED in answer.stderr


def test_a_key_that_is_only_offered_leaves_no_trace(ssh: Ssh, key: Key) -> None:
    """The offer is accepted, but nobody signs: nothing is bound, nothing is written."""
    with paramiko.Transport(("127.0.0.1", ssh.port)) as transport:
        transport.start_client(timeout=10)
        transport.auth_timeout = 5
        public = paramiko.PKey.from_path(key.path)
        message = paramiko.Message()
        for part in (b"\x32",):
            message.add_bytes(part)
        for text in ("alice", "ssh-connection", "publickey"):
            message.add_string(text)
        message.add_boolean(False)
        message.add_string(public.get_name())
        message.add_string(public.asbytes())
        request = paramiko.Message()
        request.add_bytes(b"\x05")
        request.add_string("ssh-userauth")
        transport._send_message(request)  # type: ignore[attr-defined]
        transport._send_message(message)  # type: ignore[attr-defined]
        with pytest.raises(paramiko.SSHException):
            transport.open_session(timeout=3)
    assert SshKey.objects.get().last_used_at is None
    assert ssh("whoami").code == 0
    assert SshKey.objects.get().last_used_at is not None


def test_a_foreign_signature_does_not_open_an_offered_key(
    ssh: Ssh, key: Key, other_key: Key
) -> None:
    """The client offers Alice's public key and signs with its own."""

    class Thief(paramiko.Ed25519Key):
        def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
            return paramiko.PKey.from_path(other_key.path).sign_ssh_data(data, algorithm)

    with paramiko.Transport(("127.0.0.1", ssh.port)) as transport:
        transport.start_client(timeout=10)
        with pytest.raises(paramiko.AuthenticationException):
            transport.auth_publickey("alice", Thief(filename=str(key.path)))


def test_a_key_revoked_during_a_connection_runs_no_further_command(ssh: Ssh, key: Key) -> None:
    with paramiko.Transport(("127.0.0.1", ssh.port)) as transport:
        transport.connect(username="alice", pkey=paramiko.PKey.from_path(key.path))
        first = transport.open_session(timeout=5)
        first.exec_command("whoami")
        assert first.recv_exit_status() == 0
        SshKey.objects.update(revoked_at=timezone.now())
        second = transport.open_session(timeout=5)
        second.exec_command("whoami")
        assert second.recv_exit_status() == 4
        assert b"does not open" in second.recv_stderr(1000)


def test_a_client_with_many_wrong_keys_is_sent_away(ssh: Ssh, tmp_path: Path) -> None:
    wrong = [make_key(tmp_path, f"k{n}") for n in range(9)]
    options = [word for key in wrong for word in ("-i", str(key.path))]
    answer = ssh("whoami", key=wrong[0], options=[*options, "-v", "-oLogLevel=DEBUG1"])
    assert answer.code == 255
    assert answer.stderr.count("Offering public key") < 9
    assert "No more auth methods available" in answer.stderr


def test_who_does_not_log_in_is_cut_off_after_the_grace(alice: User, commands: Commands) -> None:
    with (
        running(commands, login_grace=0.3) as gateway,
        socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as stranger,
    ):
        assert stranger.recv(100).startswith(b"SSH-2.0-Station")
        while stranger.recv(4096):
            pass


def test_strangers_of_one_address_get_a_bounded_number_of_places(ssh: Ssh) -> None:
    strangers = [socket.create_connection(("127.0.0.1", ssh.port), timeout=10) for _ in range(10)]
    try:
        for stranger in strangers:
            assert stranger.recv(100).startswith(b"SSH-2.0-Station")
        assert ssh("whoami").code == 255
    finally:
        for stranger in strangers:
            stranger.close()
    until(lambda: ssh("whoami").code == 0, "a place for Alice")


# --- authorized_keys ----------------------------------------------------------------------------


def test_a_line_of_the_file_lets_its_user_in(
    alice: User, commands: Commands, other_key: Key, authorized_keys: Path
) -> None:
    line = f'from="127.0.0.0/8",environment="STATION_USER=alice" {other_key.public}'
    authorized_keys.write_text(line)
    with running(commands, authorized_keys=authorized_keys) as gateway:
        ssh = Ssh(port=gateway.port, key=other_key, user="alice")
        assert re.match("ssh_key alice/authorized_keys False", ssh("whoami").stdout)
        authorized_keys.write_text(line.replace("127.0.0.0/8", "10.0.0.0/8"))
        assert DENIED in ssh("whoami").stderr


def test_a_registered_key_that_was_revoked_is_not_revived_by_the_file(
    alice: User, commands: Commands, key: Key, authorized_keys: Path
) -> None:
    authorized_keys.write_text(f'environment="STATION_USER=alice" {key.public}')
    SshKey.objects.update(revoked_at=timezone.now())
    with running(commands, authorized_keys=authorized_keys) as gateway:
        assert DENIED in Ssh(port=gateway.port, key=key, user="alice")("whoami").stderr
