"""``python -m station.embedded.bootstrap``: migrate, and make what a first visitor needs.

Reads options as JSON from standard input and writes :class:`station.embedded.local.FirstSteps` as
JSON to standard output, so that no secret is ever an argument or a variable.
"""

import json
import os
import secrets
import sys
from datetime import timedelta
from typing import Any

from station.config.quantities import parse_duration
from station.core.principal import Principal, system

DEMO_ENVIRONMENT = "demo"
DEMO_AGENT = "machine-report"
DEMO_SERVER = "machine"
DEMO_ROOT = "/usr/share"
_PROMPT = """\
You look after the machine you run on. Use your tools to look, never guess a figure, and report
what you found in a few short lines: load, memory, the fullest disk and the biggest folders."""


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "station.settings")
    import django  # noqa: PLC0415

    import station.celery  # noqa: F401, PLC0415 - no process may fall back to a default app

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    options = json.load(sys.stdin)
    json.dump(_first_steps(**options), sys.stdout)
    return 0


def _first_steps(*, key_name: str, expires: str, demo_tools: str) -> dict[str, Any]:
    from django.utils import timezone  # noqa: PLC0415

    from station.accounts import services  # noqa: PLC0415
    from station.accounts.models import User  # noqa: PLC0415

    principal = system("set-up")
    password = None
    admin = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if admin is None:
        password = secrets.token_urlsafe(12)
        admin = services.create_user(
            principal, username="admin", password=password, platform_admin=True
        )
    key = None
    if expires or not admin.api_keys.filter(name=key_name, revoked_at=None).exists():
        ends = timezone.now() + timedelta(seconds=parse_duration(expires)) if expires else None
        _, key = services.create_api_key(
            principal, name=key_name, username=admin.username, expires_at=ends
        )
    return {
        "username": admin.username,
        "password": password,
        "api_key": key,
        "demo_agent": _demo_agent(principal, demo_tools),
    }


def _demo_agent(principal: Principal, demo_tools: str) -> str | None:
    """The demo agent's name, made where it is missing; ``None`` where it could not run."""
    from agents import services as agents  # noqa: PLC0415
    from station.accounts import services as accounts  # noqa: PLC0415
    from station.accounts.models import Environment  # noqa: PLC0415
    from station.config import current  # noqa: PLC0415
    from toolservers import services as toolservers  # noqa: PLC0415
    from toolservers.models import ToolServer  # noqa: PLC0415

    if demo_tools not in current().mcp.stdio_commands:
        return None
    environment = Environment.objects.filter(name=DEMO_ENVIRONMENT).first()
    if environment is None:
        environment = accounts.create_environment(
            principal, name=DEMO_ENVIRONMENT, description="A look at this machine, read-only."
        )
    server = ToolServer.objects.filter(environment=environment, name=DEMO_SERVER).first()
    if server is not None and server.command != demo_tools:  # the checkout was moved
        toolservers.remove(principal, server)
        server = None
    if server is None:
        toolservers.add(
            principal,
            environment_id=environment.pk,
            name=DEMO_SERVER,
            transport="stdio",
            command=demo_tools,
            args=["--root", DEMO_ROOT],
        )
    if not agents.visible(principal).filter(environment=environment, name=DEMO_AGENT).exists():
        agents.create(
            principal,
            environment_id=environment.pk,
            name=DEMO_AGENT,
            description="Looks at this machine's load, memory, disks and folders.",
            definition=agents.Definition(prompt=_PROMPT, tools=(f"{DEMO_SERVER}/*",)),
        )
    return DEMO_AGENT


if __name__ == "__main__":
    raise SystemExit(main())
