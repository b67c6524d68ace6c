"""The commands about environments, their variables, users and keys."""

from station.accounts.commands import environments, keys, users, variables

__all__ = ["environments", "keys", "users", "variables"]
