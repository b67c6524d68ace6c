"""The web admin of identities, environments and variables."""

from django.contrib import admin
from django.contrib.auth.models import Group

from station.accounts.admin import environments, keys, users

__all__ = ["environments", "keys", "users"]

admin.site.unregister(Group)  # roles in environments take the place of groups
