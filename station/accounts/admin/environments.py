"""Environments, who is a member of them, and their variables."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from station.accounts import environments, services
from station.accounts.admin.base import Move, StationAdmin
from station.accounts.admin.columns import EnvironmentFilter, YesNoFilter, badge, display, when
from station.accounts.admin.forms import DOTS, ServiceForm, WriteOnly, text_area, text_input
from station.accounts.errors import NameTaken
from station.accounts.models import Environment, Membership, Variable
from station.commands.text import one_line
from station.core.errors import InvalidInput, NotFound
from station.core.principal import Principal, Role

_BELONGINGS = (
    ("accounts_membership", "members"),
    ("accounts_variable", "variables"),
    ("toolservers_toolserver", "tool servers"),
    ("agents_agent", "agents"),
    ("runs_run", "runs"),
)

_STATES = {"paused": "warning", "queue paused": "warning", "active": "success"}

_ROLES = {"viewer": "info", "operator": "primary", "admin": "warning"}

_KINDS = {"secret": "warning", "plain": "info"}


def _paused(paused: bool) -> Move[Environment]:
    def do(principal: Principal, row: Environment, _: Mapping[str, Any]) -> str:
        changed = environments.update(principal, row.pk, paused=paused)
        if paused:
            return f"Environment {row} is paused: it accepts runs and starts none."
        if changed.paused:
            return f"Environment {row} starts runs again once the whole queue does."
        return f"Environment {row} starts runs again."

    return Move(
        label="Pause" if paused else "Resume",
        icon="pause" if paused else "play_arrow",
        need=Role.ADMIN,
        do=do,
        when=lambda row: row.paused_itself is not paused,
    )


class PausedFilter(YesNoFilter):
    title = "state"
    parameter_name = "paused"
    condition = Q(paused=True)
    words = ("paused", "active")


class EnvironmentForm(ServiceForm):
    merges = True
    blamed = {NameTaken: "name"}


@admin.register(Environment)
class EnvironmentAdmin(StationAdmin[Environment]):
    form = page_form = EnvironmentForm
    may_add = "platform admin"
    may_change = Role.ADMIN
    moves = {"pause": _paused(True), "resume": _paused(False)}
    list_display = ["name", "description", "state", "members", "created"]
    list_filter = [PausedFilter]
    search_fields = ["name", "description"]
    asked = ("name", "description")
    facts = ("name", "state", "belongings", "created")
    changed = readable = ("description", "max_running")

    def rows(self, principal: Principal) -> models.QuerySet[Environment]:
        rows = services.visible_environments(principal)
        return rows.annotate(member_count=Count("memberships"))

    def environment_id_of(self, row: Environment) -> int:
        return row.pk

    def store(
        self, principal: Principal, row: Environment, given: Mapping[str, Any], *, change: bool
    ) -> Environment:
        if change:
            return environments.update(principal, row.pk, **given)
        return services.create_environment(
            principal, name=given["name"], description=given["description"]
        )

    @display(description="state")
    def state(self, row: Environment) -> SafeString:
        if not row.paused:
            return badge("active", _STATES)
        return badge("paused" if row.paused_itself else "queue paused", _STATES)

    @display(description="members", ordering="member_count")
    def members(self, row: Any) -> int:
        return int(row.member_count)

    @display(description="created", ordering="created_at")
    def created(self, row: Environment) -> SafeString | str:
        return when(row.created_at)

    @display(description="what is in it")
    def belongings(self, row: Environment) -> SafeString:
        return format_html_join(
            " · ",
            '<a class="st-link" href="{}?environment={}">{}</a>',
            [(reverse(f"admin:{name}_changelist"), row.pk, text) for name, text in _BELONGINGS],
        )


class MembershipForm(ServiceForm):
    username = forms.CharField(max_length=150, widget=text_input(), help_text="The user's name.")
    blamed = {NotFound: "username"}


class RoleFilter(admin.SimpleListFilter):
    title = "role"
    parameter_name = "role"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(role.label, role.label) for role in Role]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Membership]
    ) -> models.QuerySet[Membership]:
        chosen = [role for role in Role if role.label == self.value()]
        return queryset.filter(role=chosen[0].value) if chosen else queryset


@admin.register(Membership)
class MembershipAdmin(StationAdmin[Membership]):
    form = MembershipForm
    may_add = may_change = may_delete = Role.ADMIN
    list_display = ["user", "environment", "role_label"]
    list_filter = [EnvironmentFilter, RoleFilter]
    search_fields = ["user__username", "environment__name"]
    asked = ("environment", "username", "role")
    facts = ("environment", "user")
    changed = readable = ("role",)

    def rows(self, principal: Principal) -> models.QuerySet[Membership]:
        rows = Membership.objects.select_related("user", "environment").order_by(
            "environment__name", "user__username"
        )
        return rows.filter(environment__in=services.visible_environments(principal))

    def store(
        self, principal: Principal, row: Membership, given: Mapping[str, Any], *, change: bool
    ) -> Membership:
        stored = services.set_role(
            principal,
            username=row.user.username if change else given["username"],
            environment_id=row.environment_id,
            role=Role(given["role"]),
        )
        assert stored is not None
        row.user = stored.user
        return stored

    def remove(self, principal: Principal, row: Membership) -> None:
        services.set_role(
            principal,
            username=row.user.username,
            environment_id=row.environment_id,
            role=None,
        )

    @display(description="role", ordering="role")
    def role_label(self, row: Membership) -> SafeString:
        return badge(Role(row.role).label, _ROLES)


class VariableForm(ServiceForm):
    """The value of a secret is write-only: neither page nor error ever holds it."""

    value = forms.CharField(required=False, strip=False, widget=text_area(3))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "value" not in self.fields:
            return
        stored = self.instance.pk is not None and self.instance.secret
        if stored or bool(self.data.get("secret")):
            self.fields["value"].widget = WriteOnly(
                attrs=self.fields["value"].widget.attrs | ({"placeholder": DOTS} if stored else {})
            )
        if stored:
            self.fields["value"].help_text = "Leave it empty to keep the present value."

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        stored = self.initial.get("secret", False) and self.instance.pk is not None
        if stored and not given.get("secret") and not given.get("value"):
            self.add_error("value", "Give a value: what was secret is never shown.")
        return given


class SecretFilter(YesNoFilter):
    title = "kind"
    parameter_name = "kind"
    condition = Q(secret=True)
    words = ("secret", "plain")


@admin.register(Variable)
class VariableAdmin(StationAdmin[Variable]):
    form = page_form = VariableForm
    may_add = may_change = may_delete = Role.ADMIN
    list_display = ["name", "environment", "kind", "shown", "updated"]
    list_filter = [EnvironmentFilter, SecretFilter]
    search_fields = ["name"]
    asked = ("environment", "name", "secret", "value")
    facts = ("environment", "name")
    changed = ("secret", "value")
    readable = ("kind", "shown")

    def rows(self, principal: Principal) -> models.QuerySet[Variable]:
        return services.visible_variables(principal).defer("sealed_value")

    def store(
        self, principal: Principal, row: Variable, given: Mapping[str, Any], *, change: bool
    ) -> Variable:
        value, secret = given["value"], given["secret"]
        if change:
            before = services.visible_variables(principal).get(pk=row.pk)
            if before.secret and secret and not value:
                return before
        elif Variable.objects.filter(environment_id=row.environment_id, name=row.name).exists():
            principal.require(Role.ADMIN, row.environment_id)
            raise InvalidInput("name", "is in use in this environment", fix="Change that one.")
        return services.set_variable(
            principal, environment_id=row.environment_id, name=row.name, value=value, secret=secret
        )

    def remove(self, principal: Principal, row: Variable) -> None:
        services.delete_variable(principal, variable_id=row.pk)

    @display(description="kind", ordering="secret")
    def kind(self, row: Variable) -> SafeString:
        return badge("secret" if row.secret else "plain", _KINDS)

    @display(description="value")
    def shown(self, row: Variable) -> str:
        return DOTS if row.secret else one_line(row.value, 80) or "(empty)"

    @display(description="updated", ordering="updated_at")
    def updated(self, row: Variable) -> SafeString | str:
        return when(row.updated_at)
