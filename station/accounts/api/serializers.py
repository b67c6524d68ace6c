"""The shapes of identities, environments and variables over REST."""

from typing import Any

from rest_framework import serializers

from station.accounts.api.fields import (
    Flag,
    Moment,
    OneOf,
    Reference,
    Switch,
    Text,
    Texts,
    Whole,
)
from station.accounts.api.shapes import ListQuery, Shape
from station.accounts.models import ApiKey, Environment, Membership, SshKey, User, Variable
from station.core.principal import Principal, Role

ROLES = [role.label for role in Role]
_ENVIRONMENT = "Name or id of the environment."


# --- answers --------------------------------------------------------------------------------


class RoleName(serializers.ChoiceField):
    """A role by its name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=ROLES, **kwargs)

    def to_representation(self, value: Any) -> str:
        return Role(value).label


class EnvironmentSerializer(serializers.Serializer[Environment]):
    """An environment."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    description = serializers.CharField()
    paused = serializers.BooleanField(
        source="paused_itself", help_text="Accepts runs but starts none."
    )
    starts_runs = serializers.SerializerMethodField(
        help_text="false: it is paused, or the whole queue is."
    )
    max_running = serializers.IntegerField(
        allow_null=True, help_text="Most runs at once; null: no cap."
    )
    role = serializers.SerializerMethodField(help_text="Your role in it.")
    created_at = serializers.DateTimeField()

    def get_starts_runs(self, row: Environment) -> bool:
        """What both switches come to."""
        return not row.paused

    def get_role(self, row: Environment) -> str:
        """The caller's role."""
        principal: Principal = self.context["principal"]
        held = principal.role_in(row.pk)
        return "" if held is None else held.label


class VariableSerializer(serializers.Serializer[Variable]):
    """A variable; the value of a secret is never shown."""

    id = serializers.IntegerField()
    environment = serializers.CharField(source="environment.name")
    name = serializers.CharField()
    secret = serializers.BooleanField()
    value = serializers.SerializerMethodField("plain_value", help_text="null for a secret.")
    updated_at = serializers.DateTimeField()

    def plain_value(self, row: Variable) -> str | None:
        """The plain value."""
        return None if row.secret else row.value


class MemberSerializer(serializers.Serializer[Membership]):
    """A user's role in an environment."""

    environment = serializers.CharField(source="environment.name")
    user = serializers.CharField(source="user.username")
    role = RoleName()


class UserSerializer(serializers.Serializer[User]):
    """A user."""

    id = serializers.IntegerField()
    username = serializers.CharField()
    email = serializers.CharField()
    active = serializers.BooleanField(source="is_active")
    platform_admin = serializers.BooleanField(source="is_superuser")
    service_account = serializers.BooleanField(source="is_service_account")
    memberships = MemberSerializer(many=True)
    created_at = serializers.DateTimeField(source="date_joined")


class ApiKeySerializer(serializers.Serializer[ApiKey]):
    """An API key, without its secret."""

    key_id = serializers.CharField(help_text="The part after `stn_`; it identifies the key.")
    name = serializers.CharField()
    user = serializers.CharField(source="user.username")
    role = RoleName(help_text="The most it may do, whatever its user may.")
    environments = serializers.SerializerMethodField(
        help_text="The environments it is restricted to; empty: all of its user's."
    )
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)

    def get_environments(self, row: ApiKey) -> list[str]:
        """Their names, in order."""
        return sorted(environment.name for environment in row.environments.all())


class NewApiKeySerializer(ApiKeySerializer):
    """A new API key, with the whole of it, this once."""

    key = serializers.SerializerMethodField(help_text="Keep it: it is not shown again.")

    def get_key(self, row: ApiKey) -> str:
        """The key's text."""
        return str(self.context["key"])


class SshKeySerializer(serializers.Serializer[SshKey]):
    """A public key that opens the SSH gateway."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    user = serializers.CharField(source="user.username")
    fingerprint = serializers.CharField()
    public_key = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


# --- requests -------------------------------------------------------------------------------


class NewEnvironment(Shape):
    """An environment to create."""

    name = Text(help_text="Lower-case letters, digits and inner hyphens.")
    description = Text(required=False, allow_blank=True)


class EnvironmentChange(Shape):
    """What to change; the rest stays."""

    paused = Flag(required=False)
    description = Text(required=False, allow_blank=True)
    max_running = Whole(
        required=False, allow_null=True, help_text="Most runs at once; null lifts the cap."
    )


class VariableQuery(ListQuery):
    """Which variables."""

    environment = Reference(required=False, help_text=_ENVIRONMENT)


class NewVariable(Shape):
    """A variable to create or replace."""

    environment = Reference(help_text=_ENVIRONMENT)
    name = Text(help_text="Upper-case letters, digits and underscores.")
    value = Text(allow_blank=True)
    secret = Flag(help_text="Encrypted, and never shown again.")


class VariableValue(Shape):
    """A variable's new value."""

    value = Text(allow_blank=True)
    secret = Flag(required=False, help_text="As it is, if omitted.")


class MemberRole(Shape):
    """A member's role."""

    role = OneOf(ROLES)


class UserQuery(ListQuery):
    """Which users."""

    active = Switch(required=False)


class NewUser(Shape):
    """A user to create."""

    username = Text()
    email = Text(required=False, allow_blank=True)
    password = Text(required=False, help_text="Without one nobody can log in as them.")
    platform_admin = Flag(required=False)
    service_account = Flag(required=False, help_text="Authenticates by API key only.")


class NewApiKey(Shape):
    """An API key to create."""

    name = Text(help_text="What it is for.")
    user = Text(required=False, help_text="Its owner; you, if omitted.")
    environments = Texts(
        required=False, max_length=100, help_text="Names or ids it is restricted to."
    )
    role = OneOf(ROLES, required=False, help_text="The most it may do; admin if omitted.")
    expires_at = Moment(required=False)


class NewSshKey(Shape):
    """A public key to register."""

    public_key = Text(help_text="One line in OpenSSH format.")
    name = Text(required=False, allow_blank=True, help_text="The key's comment if omitted.")
    user = Text(required=False, help_text="Its owner; you, if omitted.")
    expires_at = Moment(required=False)
