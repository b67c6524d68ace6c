"""Who is asking: the frozen identity every use case takes and checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from station.core.errors import Forbidden, NotFound


class Role(IntEnum):
    """What a member may do in an environment; a higher role includes the lower ones."""

    VIEWER = 10
    OPERATOR = 20
    ADMIN = 30

    @property
    def label(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, name: str) -> "Role":
        """The role called ``name`` (``viewer``, ``operator``, ``admin``). Raises ``KeyError``."""
        return cls[name.upper()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """An authenticated identity with its rights, fixed at authentication.

    ``roles`` maps environment id to role. A platform admin may do anything in every environment
    and owns what belongs to none (users, environments, stdio tool servers).
    """

    kind: Literal["user", "api_key", "ssh_key", "system"]
    id: str
    label: str
    user_id: int | None = None
    platform_admin: bool = False
    roles: Mapping[int, Role] = field(default_factory=dict)

    def role_in(self, environment_id: int) -> Role | None:
        """The role held in the environment, ``None`` for a stranger to it."""
        return Role.ADMIN if self.platform_admin else self.roles.get(environment_id)

    def require(self, role: Role, environment_id: int) -> None:
        """Demand at least ``role`` in the environment.

        Raises:
            NotFound: the principal is a stranger there (so that names do not leak).
            Forbidden: a member, but with too low a role.
        """
        held = self.role_in(environment_id)
        if held is None:
            raise NotFound
        if held < role:
            raise Forbidden(
                f"This needs the {role.label} role in the environment, and {self.label} has "
                f"{held.label}.",
                fix="Ask an admin of the environment for the role.",
            )

    def require_platform_admin(self) -> None:
        """Demand a platform admin. Raises :class:`Forbidden`."""
        if not self.platform_admin:
            raise Forbidden(
                f"This needs a platform admin; {self.label} is not one.",
                fix="Ask a platform admin to do it.",
            )


def system(label: str) -> Principal:
    """The principal of Station's own processes and of the operator at the host's shell."""
    return Principal(kind="system", id=label, label=label, platform_admin=True)
