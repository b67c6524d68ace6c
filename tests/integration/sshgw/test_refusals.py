"""What the gateway does not do, and with which algorithms it does not do it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from sshgw.hostkey import GENERATED, host_key
from station.config import current
from tests.integration.sshgw.client import Commands, Key, Ssh


def test_there_is_no_shell_and_the_gateway_says_what_to_do_instead(ssh: Ssh) -> None:
    answer = ssh()
    assert answer.code == 1
    assert answer.stdout == ""
    assert "has no shell yet" in answer.stderr
    assert f"ssh -p {ssh.port} alice@127.0.0.1 run list --json" in answer.stderr


def test_file_transfer_is_refused(ssh: Ssh) -> None:
    done = subprocess.run(
        ssh.argv(program="sftp"), input="", capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 255
    assert "subsystem request failed" in done.stderr


def test_local_forwarding_is_refused(ssh: Ssh) -> None:
    answer = ssh(options=["-W", "127.0.0.1:80", "-oLogLevel=INFO"])
    assert answer.code == 255
    assert "administratively prohibited" in answer.stderr


def test_remote_forwarding_is_refused(ssh: Ssh) -> None:
    options = ["-R", "0:127.0.0.1:80", "-oExitOnForwardFailure=yes"]
    answer = ssh("whoami", options=options)
    assert answer.code == 255
    assert "remote port forwarding failed" in answer.stderr


def test_agent_forwarding_is_refused(ssh: Ssh, tmp_path: Path, key: Key) -> None:
    """The command runs, and the client says that its agent was not taken."""
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL
    )
    try:
        done = subprocess.run(
            [*ssh.argv(options=["-A", "-oIdentityAgent=" + str(tmp_path / "agent"), "-v",
                                "-oLogLevel=DEBUG2"]), "whoami"],
            capture_output=True, text=True, timeout=20, check=False,
            env={**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent")},
        )  # fmt: skip
    finally:
        agent.terminate()
        agent.wait(10)
    assert done.returncode == 0
    assert "auth-agent-req" not in done.stderr or "agent forwarding request failed" in done.stderr


def test_the_environment_of_the_client_is_not_taken(ssh: Ssh, commands: Commands) -> None:
    assert ssh("whoami", options=["-oSetEnv=STATION_USER=root"]).code == 0
    assert commands.sessions[0].principal.label == "alice/laptop"


def test_modern_algorithms_are_agreed_on(ssh: Ssh) -> None:
    talk = ssh("whoami", options=["-vv", "-oLogLevel=DEBUG2"]).stderr
    assert "kex: algorithm: curve25519-sha256@libssh.org" in talk
    assert "kex: host key algorithm: ssh-ed25519" in talk
    assert re.search("server->client cipher: aes(256|128)-(gcm@openssh.com|ctr)", talk)
    offer = talk[talk.index("peer server KEXINIT proposal") :]
    assert "kex-strict-s-v00@openssh.com" in offer
    for old in ("sha1", "md5", "cbc", "3des", "group14", "group1-", "nistp", "ssh-dss", "ssh-rsa"):
        assert old not in offer.split("debug1")[0], old


@pytest.mark.parametrize(
    "old",
    [
        "KexAlgorithms=diffie-hellman-group14-sha1",
        "KexAlgorithms=diffie-hellman-group14-sha256",
        "Ciphers=aes128-cbc",
        "Ciphers=3des-cbc",
        "MACs=hmac-sha1",
        "HostKeyAlgorithms=ssh-rsa",
    ],
)
def test_old_algorithms_find_nothing_in_common(ssh: Ssh, old: str) -> None:
    options = [f"-o{old}", "-oLogLevel=INFO"]
    if old.startswith("MACs"):
        options.append("-oCiphers=aes128-ctr")
    answer = ssh("whoami", options=options)
    assert answer.code == 255
    assert "no matching" in answer.stderr


@pytest.mark.parametrize(
    "cipher", ["aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr"]
)
def test_every_cipher_on_offer_carries_data(ssh: Ssh, cipher: str) -> None:
    assert len(ssh("much", "100000", options=["-c", cipher]).stdout) == 100000 // 64 * 64


def test_a_connection_survives_the_exchange_of_new_keys(ssh: Ssh) -> None:
    answer = ssh("much", str(1024 * 1024), options=["-oRekeyLimit=128K"])
    assert answer.code == 0
    assert len(answer.stdout) == 1024 * 1024


def test_the_made_host_key_is_kept_and_nobody_elses_business() -> None:
    config = current()
    first = host_key(config)
    assert host_key(config).asbytes() == first.asbytes()
    assert (config.data_dir / GENERATED).stat().st_mode & 0o777 == 0o600
