"""The host's private key: the configured file, or one that is made once and kept."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sshgw.errors import HostKeyUnusable
from station.config import Config

GENERATED = "ssh_host_ed25519_key"
_SMALLEST_RSA = 3072


def host_key(config: Config) -> paramiko.PKey:
    """The key in ``ssh.host_key_path``, or else the one in the data folder, made if missing.

    Raises:
        HostKeyUnusable: it cannot be read or made, others may read it, or it is of a kind or size
            that is no longer safe.
    """
    configured = config.ssh.host_key_path
    path = configured or config.data_dir / GENERATED
    if configured is None and not path.exists():
        _make(path)
    return _load(path)


def _load(path: Path) -> paramiko.PKey:
    try:
        mode = path.stat().st_mode
        # The group may read: that is how Kubernetes gives a secret to a process that is not root.
        if mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise HostKeyUnusable(
                f"The SSH host key {path} is open to other users.", fix=f"chmod 600 {path}"
            )
        key = paramiko.PKey.from_path(path)
    except OSError as error:
        raise HostKeyUnusable(
            f"The SSH host key {path} cannot be read: {error.strerror}.",
            fix="Check ssh.host_key_path and the file's owner.",
        ) from None
    except (paramiko.SSHException, ValueError, TypeError) as error:
        raise HostKeyUnusable(
            f"The SSH host key {path} is no private key that can be used: {error}.",
            fix=f"Make one without a passphrase: ssh-keygen -t ed25519 -N '' -f {path}",
        ) from None
    if isinstance(key, paramiko.RSAKey) and key.get_bits() < _SMALLEST_RSA:
        raise HostKeyUnusable(
            f"The SSH host key {path} has only {key.get_bits()} bits.",
            fix=f"Make a better one: ssh-keygen -t ed25519 -N '' -f {path}",
        )
    return key


def _make(path: Path) -> None:
    """A new Ed25519 key. Of several processes that make one at once, all use the first."""
    private = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".ssh_host_")  # mode 0600
        try:
            with open(descriptor, "wb") as file:
                file.write(private)
                file.flush()
                os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            os.unlink(temporary)
    except OSError as error:
        raise HostKeyUnusable(
            f"No SSH host key can be made at {path}: {error.strerror}.",
            fix="Make data_dir writable, or set ssh.host_key_path.",
        ) from None
