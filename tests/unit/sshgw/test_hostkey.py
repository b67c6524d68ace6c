"""The host's private key."""

import subprocess
from pathlib import Path

import pytest

from sshgw.errors import HostKeyUnusable
from sshgw.hostkey import GENERATED, host_key
from station.config import Config, current


def config(folder: Path, path: Path | None = None) -> Config:
    present = current()
    ssh = present.ssh.model_copy(update={"host_key_path": path})
    return present.model_copy(update={"data_dir": folder, "ssh": ssh})


def made(folder: Path, kind: str, bits: str) -> Path:
    path = folder / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", str(path)], check=True
    )
    return path


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    first = host_key(config(tmp_path))
    assert first.get_name() == "ssh-ed25519"
    assert host_key(config(tmp_path)).asbytes() == first.asbytes()
    assert (tmp_path / GENERATED).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [GENERATED]


@pytest.mark.parametrize(("kind", "bits"), [("rsa", "3072"), ("ecdsa", "256"), ("ed25519", "256")])
def test_a_configured_key_is_used(tmp_path: Path, kind: str, bits: str) -> None:
    assert host_key(config(tmp_path, made(tmp_path, kind, bits))).can_sign()


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostKeyUnusable, match="2048 bits"):
        host_key(config(tmp_path, made(tmp_path, "rsa", "2048")))


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path, "ed25519", "256")
    path.chmod(0o644)
    with pytest.raises(HostKeyUnusable, match="other users"):
        host_key(config(tmp_path, path))


def test_a_missing_configured_key_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(HostKeyUnusable, match="No such file"):
        host_key(config(tmp_path, tmp_path / "missing"))


@pytest.mark.parametrize("text", ["", "junk", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(HostKeyUnusable, match="no private key"):
        host_key(config(tmp_path, path))
