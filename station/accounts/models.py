"""Who may do what where: environments, their variables, users, memberships and keys."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now

from station.core.principal import Role
from station.vault.models import SealedField, Sealing

NAME = RegexValidator(
    r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    "Use lower-case letters, digits and inner hyphens, at most 63 characters.",
)
VARIABLE_NAME = RegexValidator(
    r"^[A-Z][A-Z0-9_]{0,127}$", "Use upper-case letters, digits and underscores."
)


class Environment(models.Model):
    """The wall between tenants: every agent, run, tool server and secret belongs to one."""

    name = models.CharField(max_length=63, unique=True, validators=[NAME])
    description = models.CharField(max_length=500, blank=True)
    paused = models.BooleanField(
        default=False, help_text="A paused environment accepts runs but starts none."
    )
    paused_itself = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Its own switch; it is paused while this or that of the whole queue says so.",
    )
    max_running = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most runs at once; empty for no cap."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "environments"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class QueueSwitch(models.Model):
    """The switch of the whole queue: one row. Change it through :mod:`station.accounts.pausing`."""

    paused = models.BooleanField(default=False)
    by = models.CharField(max_length=200, blank=True, help_text="Who paused it.")
    since = models.DateTimeField(null=True)

    class Meta:
        db_table = "queue_switch"
        constraints = [
            models.CheckConstraint(name="there_is_one_queue_switch", condition=models.Q(pk=1))
        ]

    def __str__(self) -> str:
        return "paused" if self.paused else "running"


class User(AbstractUser):
    """A person, or a service account (which authenticates by key only and never logs in).

    ``is_superuser`` makes a platform admin; ``is_staff`` admits to the web admin.
    """

    is_service_account = models.BooleanField(default=False)

    class Meta:
        db_table = "users"
        ordering = ["username"]
        constraints = [
            models.CheckConstraint(
                name="service_accounts_do_not_log_in",
                condition=~models.Q(is_service_account=True, is_staff=True),
            )
        ]


class Membership(models.Model):
    """A user's role in an environment."""

    class RoleChoice(models.IntegerChoices):
        VIEWER = Role.VIEWER.value, "viewer"
        OPERATOR = Role.OPERATOR.value, "operator"
        ADMIN = Role.ADMIN.value, "admin"

    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    environment = models.ForeignKey(Environment, models.CASCADE, related_name="memberships")
    role = models.SmallIntegerField(choices=RoleChoice.choices)

    class Meta:
        db_table = "memberships"
        constraints = [
            models.UniqueConstraint(
                fields=["user", "environment"], name="one_role_per_user_and_environment"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} is {Role(self.role).label} in {self.environment}"


class Variable(Sealing):
    """A named value of an environment for its tool servers; secret ones are encrypted."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="variables")
    name = models.CharField(max_length=128, validators=[VARIABLE_NAME])
    secret = models.BooleanField(default=False)
    value = models.TextField(blank=True, help_text="Empty for a secret.")
    sealed_value = SealedField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "variables"
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "name"], name="variable_name_unique_in_environment"
            ),
            models.CheckConstraint(
                name="secrets_are_stored_sealed_only",
                condition=models.Q(secret=False, sealed_value=b"")
                | (models.Q(secret=True, value="") & ~models.Q(sealed_value=b"")),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def assign(self, value: str, *, secret: bool) -> None:
        """Set the value, sealed or plain; the caller saves the row."""
        self.secret = secret
        self.value, self.sealed_value = ("", b"") if secret else (value, b"")
        if secret:
            self.seal("sealed_value", value)

    def reveal(self) -> str:
        """The value in clear, for handing to a tool server. Raises ``CannotDecrypt``."""
        return self.unseal("sealed_value") if self.secret else self.value


class ApiKey(models.Model):
    """A bearer credential ``stn_<key id>_<secret><checksum>``; only a keyed digest is stored."""

    key_id = models.CharField(max_length=12, unique=True, editable=False)
    digest = models.BinaryField(editable=False)
    pepper_id = models.BinaryField(editable=False)
    name = models.CharField(max_length=100)
    user = models.ForeignKey(User, models.CASCADE, related_name="api_keys")
    environments = models.ManyToManyField(
        Environment, blank=True, help_text="Restricts the key; none means all of its user's."
    )
    role = models.SmallIntegerField(
        choices=Membership.RoleChoice.choices,
        default=Role.ADMIN.value,
        help_text="The most this key may do, whatever its user may.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "api_keys"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} (stn_{self.key_id}_…)"


class SshKey(models.Model):
    """A public key that opens the SSH gateway for its user."""

    user = models.ForeignKey(User, models.CASCADE, related_name="ssh_keys")
    name = models.CharField(max_length=100)
    public_key = models.TextField(help_text="One line in OpenSSH format.")
    fingerprint = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "ssh_keys"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint})"
