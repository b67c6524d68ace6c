"""The sidebar: every list, by what people come for."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

_GROUPS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "Operate": (
        ("Runs", "runs_run", "play_circle"),
        ("Agents", "agents_agent", "smart_toy"),
        ("Tool servers", "toolservers_toolserver", "dns"),
        ("Tools", "toolservers_tool", "build"),
    ),
    "Access": (
        ("Environments", "accounts_environment", "deployed_code"),
        ("Users", "accounts_user", "person"),
        ("Memberships", "accounts_membership", "group"),
        ("API keys", "accounts_apikey", "key"),
        ("SSH keys", "accounts_sshkey", "terminal"),
        ("Variables", "accounts_variable", "data_object"),
    ),
    "System": (
        ("Workers", "runs_worker", "memory"),
        ("Model circuits", "runs_circuit", "electrical_services"),
    ),
}


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups as unfold wants them; what each list holds depends on who looks."""
    return [{"items": [_item("Dashboard", reverse("admin:index"), "dashboard")]}] + [
        {
            "title": title,
            "separator": True,
            "items": [
                _item(text, reverse(f"admin:{name}_changelist"), icon) for text, name, icon in items
            ],
        }
        for title, items in _GROUPS.items()
    ]


def _item(title: str, link: str, icon: str) -> dict[str, Any]:
    return {"title": title, "link": link, "icon": icon}
