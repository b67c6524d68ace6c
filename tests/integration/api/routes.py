"""Every operation of the API, read from the URL configuration, and who may use it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver, reverse

from tests.integration.api.world import OTHER_SSH_KEY, World

_METHODS = ("get", "post", "put", "patch", "delete")
_PREFIX = "api/v1/"
_NO_RESOURCES = {"api", "docs", "openapi"}


def operations() -> Iterator[tuple[str, str]]:
    """``(route name, method)`` of every operation below /api/v1/."""
    for prefix, pattern in _patterns("", get_resolver().url_patterns):
        if not f"{prefix}{pattern.pattern}".startswith(_PREFIX) or pattern.name in _NO_RESOURCES:
            continue
        view = pattern.callback.view_class  # type: ignore[attr-defined]
        for method in _METHODS:
            if hasattr(view, method):
                yield str(pattern.name), method


def _patterns(
    prefix: str, patterns: list[URLPattern | URLResolver]
) -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _patterns(f"{prefix}{pattern.pattern}", pattern.url_patterns)
        else:
            yield prefix, pattern


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Who may use an operation.

    ``needs`` is the least role in the environment it touches, ``platform`` for platform admins,
    ``anyone`` for whoever is authenticated. ``members``: what members with too low a role get;
    ``strangers``: what those outside the environment get, where it is not 404.
    """

    needs: str
    good: int = 200
    body: Callable[[World], Any] = field(default=lambda world: None)
    members: int = 403
    strangers: int = 404

    def expected(self, role: str) -> int:
        """The status ``role`` gets."""
        if role == "anonymous":
            return 401
        if self.needs == "anyone" or role == "platform":
            return self.good
        if role == "stranger":
            return self.strangers
        order = ("viewer", "operator", "admin")
        allowed = self.needs in order and order.index(role) >= order.index(self.needs)
        return self.good if allowed else self.members


def _given(**body: Any) -> Callable[[World], Any]:
    return lambda world: body


_FOR_PLATFORM: Mapping[str, Any] = {"needs": "platform", "strangers": 403}
_OF_SOMEBODY: Mapping[str, Any] = {"needs": "platform", "members": 404}

RULES: Mapping[tuple[str, str], Rule] = {
    ("environments", "get"): Rule(needs="anyone"),
    ("environments", "post"): Rule(**_FOR_PLATFORM, good=201, body=_given(name="new")),
    ("environment", "get"): Rule(needs="viewer"),
    ("environment", "patch"): Rule(needs="admin", body=_given(paused=True)),
    ("members", "get"): Rule(needs="viewer"),
    ("member", "put"): Rule(needs="admin", body=_given(role="viewer")),
    ("member", "delete"): Rule(needs="admin", good=204),
    ("variables", "get"): Rule(needs="anyone"),
    ("variables", "post"): Rule(
        needs="admin", body=_given(environment="own", name="NEW", value="x", secret=True)
    ),
    ("variable", "get"): Rule(needs="viewer"),
    ("variable", "put"): Rule(needs="admin", body=_given(value="x")),
    ("variable", "delete"): Rule(needs="admin", good=204),
    ("users", "get"): Rule(needs="anyone"),
    ("users", "post"): Rule(**_FOR_PLATFORM, good=201, body=_given(username="new")),
    ("user", "get"): Rule(**_OF_SOMEBODY),
    ("api-keys", "get"): Rule(needs="anyone"),
    ("api-keys", "post"): Rule(
        **_FOR_PLATFORM, good=201, body=_given(name="new", user="owner-person")
    ),
    ("api-key", "get"): Rule(**_OF_SOMEBODY),
    ("api-key", "delete"): Rule(**_OF_SOMEBODY, good=204),
    ("ssh-keys", "get"): Rule(needs="anyone"),
    ("ssh-keys", "post"): Rule(
        **_FOR_PLATFORM, good=201, body=_given(public_key=OTHER_SSH_KEY, user="owner-person")
    ),
    ("ssh-key", "get"): Rule(**_OF_SOMEBODY),
    ("ssh-key", "delete"): Rule(**_OF_SOMEBODY, good=204),
    ("tool-servers", "get"): Rule(needs="anyone"),
    ("tool-servers", "post"): Rule(
        needs="admin",
        good=201,
        body=_given(environment="own", name="new", transport="http", url="http://127.0.0.1:9/"),
    ),
    ("tool-server", "get"): Rule(needs="viewer"),
    ("tool-server", "patch"): Rule(needs="operator", body=_given(enabled=False)),
    ("tool-server", "delete"): Rule(needs="admin", good=204),
    ("discovery", "post"): Rule(needs="operator", good=503),
    ("tool-server-test", "post"): Rule(needs="operator"),
    ("tool-server-logs", "get"): Rule(needs="viewer"),
    ("tools", "get"): Rule(needs="anyone"),
    ("tool", "get"): Rule(needs="viewer"),
    ("tool-approval", "post"): Rule(
        needs="admin", body=lambda world: {"digest": world.tool.digest}
    ),
    ("agents", "get"): Rule(needs="anyone"),
    ("agents", "post"): Rule(
        needs="operator",
        good=201,
        body=_given(environment="own", name="new", definition={"prompt": "Work."}),
    ),
    ("agent", "get"): Rule(needs="viewer"),
    ("agent", "patch"): Rule(needs="operator", body=_given(paused=True, description="x")),
    ("versions", "get"): Rule(needs="viewer"),
    ("versions", "post"): Rule(needs="operator", good=201, body=_given(prompt="Rest.")),
    ("version", "get"): Rule(needs="viewer"),
    ("agent-runs", "post"): Rule(needs="operator", good=202, body=_given(input="Go.")),
    ("runs", "get"): Rule(needs="anyone"),
    ("run", "get"): Rule(needs="viewer"),
    ("run-cancellation", "post"): Rule(needs="operator"),
    ("runs-cancellation", "post"): Rule(
        needs="operator", strangers=422, body=_given(environment="own")
    ),
    ("run-retry", "post"): Rule(needs="operator", good=409),
    ("run-decision", "post"): Rule(
        needs="operator",
        good=409,
        body=_given(decisions=[{"call_id": "c1", "verdict": "repeat"}]),
    ),
    ("run-events", "get"): Rule(needs="viewer"),
    ("run-stream", "get"): Rule(needs="anyone", good=503),
    ("queue", "get"): Rule(needs="anyone"),
    ("queue-pause", "post"): Rule(**_FOR_PLATFORM),
    ("queue-resumption", "post"): Rule(**_FOR_PLATFORM),
}


def path_of(route: str, world: World) -> str:
    """The route's path, to what is in environment ``own`` or belongs to ``owner-person``."""
    pattern = next(p for _, p in _patterns("", get_resolver().url_patterns) if p.name == route)
    converters = pattern.pattern.converters
    return reverse(route, kwargs={name: world.paths[name] for name in converters})
