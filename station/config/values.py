"""The types of configuration values that the schema is written in.

Each refuses what cannot work, in words that never quote the value.
"""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, parse_qs, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from station.config.problems import Refused
from station.config.quantities import (
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    parse_whole_number,
)
from station.config.secrets import SecretText, SecretUrl, decode_key

_HOST = re.compile(r"(?=.{1,253}$)(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def _split_commas(value: object) -> object:
    """A comma-separated text is a list: that is how a list fits into a variable."""
    if isinstance(value, str):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def between(low: str, high: str) -> AfterValidator:
    """A bound on a duration, both ends included, written as durations."""
    least, most = parse_duration(low), parse_duration(high)

    def check(seconds: float) -> float:
        if not least <= seconds <= most:
            raise Refused(f"must be between {low} and {high}")
        return seconds

    return AfterValidator(check)


Duration = Annotated[
    float, BeforeValidator(parse_duration), PlainSerializer(format_duration, when_used="json")
]
"""Seconds."""
Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size, when_used="json")]
"""Bytes."""
Whole = Annotated[int, BeforeValidator(parse_whole_number)]
Port = Annotated[Whole, Field(ge=1, le=65535)]
Commas = BeforeValidator(_split_commas)
LogLevel = Annotated[Literal["debug", "info", "warn", "error"], BeforeValidator(_lower)]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(_lower)]


def _split(url: str) -> SplitResult | None:
    """The parts of a URL with a valid port; None if there is no way to read it as one."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if url.isprintable() and " " not in url else None


def _is_host(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(_HOST.fullmatch(name))
    return True


def _check_postgres(secret: SecretUrl) -> SecretUrl:
    url = secret.get_secret_value()
    shape = "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
    scheme = url.partition("://")[0]
    if scheme.startswith(("postgresql+", "postgres+", "postgis")):
        raise Refused("must be a plain libpq URL, without a driver's name", fix=shape)
    if scheme not in ("postgresql", "postgres"):
        raise Refused(
            "must be a postgresql:// URL: PostgreSQL is the only database Station runs on"
            " (no MySQL, no SQLite)",
            fix=shape,
        )
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.Error:
        parameters = {}
    ports = str(parameters.get("port", "")).split(",")
    if not parameters or not all(port == "" or port.isdecimal() for port in ports):
        raise Refused(
            "is not a URL that PostgreSQL's client library can read",
            fix=f"{shape} Percent-encode special characters of the password.",
        )
    if not parameters.get("dbname"):
        raise Refused("names no database", fix=shape)
    return secret


def _check_redis(secret: SecretUrl) -> SecretUrl:
    url = secret.get_secret_value()
    shape = "Write redis://:PASSWORD@HOST:6379/0, or rediss:// for TLS, or unix:///PATH?db=0."
    parts = _split(url)
    if parts is None or parts.scheme not in ("redis", "rediss", "valkey", "unix"):
        raise Refused("must be a redis://, rediss://, valkey:// or unix:// URL", fix=shape)
    if parts.scheme == "unix":
        if not parts.path.strip("/") or not all(
            number.isdecimal() for number in parse_qs(parts.query).get("db", [])
        ):
            raise Refused("must name a socket, and its database by number", fix=shape)
        return secret
    if not parts.hostname:
        raise Refused("names no host", fix=shape)
    if not re.fullmatch(r"(/[0-9]*)?", parts.path):
        raise Refused("must name its database by number", fix=shape)
    # Client libraries do not know the scheme; the protocol is the same.
    return SecretUrl(re.sub(r"^valkey://", "redis://", url, flags=re.IGNORECASE))


def _check_http(url: str) -> str:
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused("must be an http:// or https:// URL")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise Refused("must hold no login, query or fragment")
    return url


def _check_origin(origin: str) -> str:
    fix = "Write it as browsers send it: https://HOST or https://HOST:PORT."
    if origin in ("*", "null"):
        raise Refused("must be one exact origin; * and null would let every site in", fix=fix)
    parts = _split(origin)
    if parts is None or parts.scheme not in ("https", "http") or not _is_host(parts.hostname or ""):
        raise Refused("must be an exact https:// origin, not a pattern", fix=fix)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    if origin != f"{parts.scheme}://{host}{port}":
        raise Refused(
            "must be only scheme, host and port: lower case, no path, no trailing slash,"
            " no default port",
            fix=fix,
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise Refused("must be https (http is for localhost and 127.0.0.1 only)", fix=fix)
    return origin


def _check_allowed_host(host: str) -> str:
    if host != "*" and not _is_host(host.removeprefix(".").strip("[]")):
        raise Refused(
            "must be a host name in lower case, an address, .DOMAIN for its subdomains, or *",
            fix="Leave out scheme and port.",
        )
    return host


def _check_bind(host: str) -> str:
    if not _is_host(host):
        raise Refused("must be an address or a host name to listen on", fix="Leave out the port.")
    return host


def _check_command(command: str) -> str:
    if not command.strip() or not command.isprintable():
        raise Refused("must be a command")
    if "/" in command and not command.startswith("/"):
        raise Refused(
            "must be an absolute path or a bare name", fix="A relative path depends on the folder."
        )
    return command


def _check_environment_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise Refused("must be the name of an environment variable")
    if name.startswith("STN_"):
        raise Refused("would hand Station's own secrets to tool servers")
    return name


def _check_key(secret: SecretText) -> SecretText:
    decode_key(secret.get_secret_value())
    return secret


def _matching(pattern: str, problem: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise Refused(problem)
        return text

    return check


def _check_path(value: Any) -> Any:
    if isinstance(value, str) and ("\0" in value or not value.strip()):
        raise Refused("must be a path")
    return value


PostgresUrl = Annotated[SecretUrl, AfterValidator(_check_postgres)]
RedisUrl = Annotated[SecretUrl, AfterValidator(_check_redis)]
HttpUrl = Annotated[str, AfterValidator(_check_http)]
Origin = Annotated[str, AfterValidator(_check_origin)]
AllowedHost = Annotated[str, AfterValidator(_check_allowed_host)]
BindHost = Annotated[str, AfterValidator(_check_bind)]
Command = Annotated[str, AfterValidator(_check_command)]
EnvironmentName = Annotated[str, AfterValidator(_check_environment_name)]
EncryptionKey = Annotated[SecretText, AfterValidator(_check_key)]
FilePath = Annotated[Path, BeforeValidator(_check_path)]
Provider = Annotated[
    str, AfterValidator(_matching(r"[a-z0-9_-]+", "must be a provider's name, like openai"))
]
ModelName = Annotated[
    str, AfterValidator(_matching(r"[!-~]+", "must be a model's name, like gpt-4"))
]
