"""What the gateway offers in an SSH handshake; nothing that ``ssh-audit`` fails is in it.

paramiko's own offer still has CBC, 3DES, MD5 and SHA-1. The NIST curves are left out of the key
exchange because ssh-audit fails them, the finite-field groups because one stranger's handshake
would cost tens of milliseconds of CPU; clients' own keys may still be ECDSA.
"""

import paramiko

KEY_EXCHANGES = ("mlkem768x25519-sha256", "curve25519-sha256@libssh.org")
CIPHERS = (
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
MACS = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com")
HOST_KEYS = (
    "ssh-ed25519",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
)
"""Offered are those of the host key there is."""
COMPRESSION = ("none",)


def restrict(transport: paramiko.Transport) -> None:
    """Limit what ``transport`` offers, before it starts.

    ML-KEM is among it where the installed ``cryptography`` has it.
    """
    options = transport.get_security_options()
    present = set(options.kex)
    options.kex = tuple(name for name in KEY_EXCHANGES if name in present)
    options.ciphers = CIPHERS
    options.digests = MACS
    options.key_types = HOST_KEYS
    options.compression = COMPRESSION
