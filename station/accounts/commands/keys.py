"""``station key …``"""

from datetime import datetime
from typing import Any

import click
from django.utils import timezone

from station.accounts import services
from station.accounts.commands.environments import environment_id
from station.accounts.commands.users import ROLES
from station.accounts.models import ApiKey, SshKey
from station.commands import (
    Session,
    command,
    environment_option,
    group,
    json_option,
    show_json,
    table,
)
from station.commands.options import Moment
from station.commands.rendering import Painted
from station.commands.text import age
from station.core.principal import Role

group("key", help="API keys, and the SSH keys that open the gateway.")

_user_option = click.option(
    "--user", "user", metavar="NAME", help="Whose key it becomes; yourself when left out."
)
_expires_option = click.option(
    "--expires",
    "expires_at",
    type=Moment(ahead=True),
    help="When it stops working: a time, or in how long (30d).",
)


def _resource(row: ApiKey | SshKey) -> dict[str, Any]:
    from station.accounts.api import serializers  # noqa: PLC0415 - 0.2 s

    if isinstance(row, ApiKey):
        return dict(serializers.ApiKeySerializer(row).data)
    return dict(serializers.SshKeySerializer(row).data)


def _state(row: ApiKey | SshKey) -> Painted:
    if row.revoked_at is not None:
        return Painted(text="revoked", style="red")
    if row.expires_at is not None and row.expires_at <= timezone.now():
        return Painted(text="expired", style="red")
    return Painted(text="valid", style="green")


@command("key", "list")
@json_option
def list_keys(session: Session, *, as_json: bool) -> None:
    """Your API keys; everybody's for a platform admin."""
    rows = services.visible_api_keys(session.principal)
    if as_json:
        show_json(session, [_resource(row) for row in rows])
        return
    table(
        session,
        ["ID", "NAME", "USER", "STATE", "AT MOST", "ENVIRONMENTS", "CREATED", "LAST USED",
         "EXPIRES"],
        (
            [
                row.key_id, row.name, row.user.username, _state(row), Role(row.role).label,
                ", ".join(sorted(e.name for e in row.environments.all())) or "all",
                age(row.created_at), age(row.last_used_at), age(row.expires_at),
            ]
            for row in rows
        ),
        empty="There is no API key. `station key create NAME` makes one.",
    )  # fmt: skip


@command("key", "create")
@click.argument("name")
@_user_option
@environment_option(many=True)
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default=Role.ADMIN.label,
    show_default=True,
    help="The most it may do, whatever its user may.",
)
@_expires_option
@json_option
def create_key(
    session: Session,
    *,
    name: str,
    user: str | None,
    env: tuple[str, ...],
    role: str,
    expires_at: datetime | None,
    as_json: bool,
) -> None:
    """Make an API key and print it, once.

    --env restricts it to environments; without, it reaches all of its user's.
    """
    row, text = services.create_api_key(
        session.principal,
        name=name,
        username=user,
        environment_ids=[environment_id(session, each) for each in env],
        role=Role.parse(role),
        expires_at=expires_at,
    )
    if as_json:
        show_json(session, {**_resource(row), "key": text})
        return
    session.note(f"API key {row.name} of {row.user.username}, shown only now:")
    session.print(text)


@command("key", "revoke")
@click.argument("key_id")
@json_option
def revoke_key(session: Session, *, key_id: str, as_json: bool) -> None:
    """End an API key: from the next request on it does not work."""
    row = services.revoke_api_key(session.principal, key_id=key_id)
    if as_json:
        show_json(session, _resource(row))
    else:
        session.print(f"API key {row.name} (stn_{row.key_id}_…) is revoked.")


@command("key", "ssh-list")
@json_option
def list_ssh_keys(session: Session, *, as_json: bool) -> None:
    """Your SSH keys; everybody's for a platform admin."""
    rows = services.visible_ssh_keys(session.principal)
    if as_json:
        show_json(session, [_resource(row) for row in rows])
        return
    table(
        session,
        ["NAME", "USER", "STATE", "CREATED", "LAST USED", "EXPIRES", "FINGERPRINT"],
        (
            [row.name, row.user.username, _state(row), age(row.created_at),
             age(row.last_used_at), age(row.expires_at), row.fingerprint]
            for row in rows
        ),
        empty="There is no SSH key. `station key ssh-add FILE` registers one.",
    )  # fmt: skip


@command("key", "ssh-add")
@click.argument("file")
@click.option("--name", default="", help="What to call it; the key's comment when left out.")
@_user_option
@_expires_option
@json_option
def add_ssh_key(
    session: Session,
    *,
    file: str,
    name: str,
    user: str | None,
    expires_at: datetime | None,
    as_json: bool,
) -> None:
    """Let a public key open the SSH gateway. FILE is a .pub file, or - for standard input."""
    row = services.add_ssh_key(
        session.principal,
        public_key=session.read_file("public_key", file).strip(),
        name=name,
        username=user,
        expires_at=expires_at,
    )
    if as_json:
        show_json(session, _resource(row))
    else:
        session.print(f"SSH key {row.fingerprint} ({row.name}) opens the gateway.")


@command("key", "ssh-revoke")
@click.argument("fingerprint")
@json_option
def revoke_ssh_key(session: Session, *, fingerprint: str, as_json: bool) -> None:
    """End an SSH key, named by its fingerprint (SHA256:…)."""
    row = services.revoke_ssh_key(session.principal, fingerprint=fingerprint)
    if as_json:
        show_json(session, _resource(row))
    else:
        session.print(f"SSH key {row.fingerprint} ({row.name}) is revoked.")
