"""The file of keys accepted besides those registered with Station, in OpenSSH's format.

A line belongs to the user in ``environment="STATION_USER=name"``, or else to the one its comment
names. ``from=`` and ``expiry-time=`` narrow it. What the gateway never grants (forwarding, X11,
a terminal of its own) may be granted or withheld and changes nothing; an option that would narrow
the key in a way the gateway does not know of makes the line void. See AUTHORIZED_KEYS FILE FORMAT
in sshd(8).
"""

import ipaddress
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import structlog

from station.accounts.keys import normalise_ssh_key
from station.core.errors import InvalidInput

_log = structlog.get_logger(__name__)
_LARGEST = 4 * 1024 * 1024
_OPTION = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?(,|[ \t]+|$)')
_KEY = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[^ \t,]*[ \t]")
_WITHOUT_EFFECT = frozenset({
    "restrict", "pty", "no-pty", "port-forwarding", "no-port-forwarding", "agent-forwarding",
    "no-agent-forwarding", "x11-forwarding", "no-x11-forwarding", "user-rc", "no-user-rc",
    "permitopen", "permitlisten", "tunnel",
})  # fmt: skip
_USER = "STATION_USER="
_EXPIRY = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


class VoidLine(ValueError):
    """A line that lets nobody in; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line that may let its user in. ``sources``: patterns of ``from=``; none means anywhere."""

    fingerprint: str
    username: str
    sources: tuple[str, ...] = ()
    expires_at: datetime | None = None

    def admits(self, address: str, now: datetime) -> bool:
        """Whether the key opens from ``address`` at ``now``."""
        if self.expires_at is not None and self.expires_at <= now:
            return False
        matches = [p for p in self.sources if _matches(p.removeprefix("!"), address)]
        if any(pattern.startswith("!") for pattern in matches):
            return False
        return bool(matches) or not self.sources


def read(path: Path) -> list[Entry]:
    """The usable lines of the file; void ones, and a file others may write, are logged."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(path.stat().st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
                _log.error("authorized_keys_refused", path=str(path), problem="others may write it")
                return []
            text = file.read(_LARGEST).decode(errors="replace")
    except OSError as error:
        _log.error("authorized_keys_unreadable", path=str(path), problem=error.strerror)
        return []
    return list(_entries(text, path))


def _entries(text: str, path: Path) -> Iterator[Entry]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = parse(line)
        except VoidLine as error:
            _log.warning("authorized_keys_line_void", path=str(path), line=number, why=str(error))
        else:
            if entry is not None:
                yield entry


def parse(line: str) -> Entry | None:
    """What a line says, ``None`` for an empty one or a comment. Raises :class:`VoidLine`."""
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    options, rest = ([], line) if _KEY.match(line) else _options(line)
    words = rest.split(maxsplit=2)
    try:
        _, fingerprint = normalise_ssh_key(rest)
    except InvalidInput as error:
        raise VoidLine(str(error)) from None
    username = words[2].strip() if len(words) > 2 else ""
    sources: list[str] = []
    expires_at: datetime | None = None
    for name, value in options:
        match name.lower():
            case "environment":
                if value.startswith(_USER):
                    username = value.removeprefix(_USER)
            case "from":
                sources += [pattern.strip() for pattern in value.split(",")]
            case "expiry-time":
                expiry = _expiry(value)
                expires_at = expiry if expires_at is None else min(expires_at, expiry)
            case harmless if harmless in _WITHOUT_EFFECT:
                pass
            case _:
                raise VoidLine(f"the option {name} is not known here")
    if not username:
        raise VoidLine('no user: add environment="STATION_USER=name", or the name as comment')
    return Entry(
        fingerprint=fingerprint, username=username, sources=tuple(sources), expires_at=expires_at
    )


def _options(line: str) -> tuple[list[tuple[str, str]], str]:
    """The options before the key, and the rest of the line."""
    found: list[tuple[str, str]] = []
    position = 0
    while match := _OPTION.match(line, position):
        name, value, end = match.groups()
        found.append((name, re.sub(r'\\(")', r"\1", value or "")))
        position = match.end()
        if end != ",":
            return found, line[position:]
    raise VoidLine("its options cannot be read")


def _expiry(value: str) -> datetime:
    """``YYYYMMDD[HHMM[SS]][Z]``, without Z in the host's time zone."""
    digits = value.removesuffix("Z")
    try:
        moment = datetime.strptime(digits, _EXPIRY[len(digits)])  # noqa: DTZ007 - given below
        return moment.replace(tzinfo=UTC) if value.endswith("Z") else moment.astimezone()
    except (KeyError, ValueError, OverflowError):
        raise VoidLine(f"{value!r} is no expiry-time") from None


def _matches(pattern: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return fnmatchcase(address.lower(), pattern.lower())
