"""API keys and SSH keys: made and revoked, never changed; everybody's own."""

from collections.abc import Mapping
from typing import Any, TypeVar

from django import forms
from django.contrib import admin
from django.db import models
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from station.accounts import services
from station.accounts.admin.base import Move, StationAdmin, principal_of
from station.accounts.admin.columns import YesNoFilter, badge, display, when
from station.accounts.admin.forms import ServiceForm, text_area
from station.accounts.errors import NameTaken
from station.accounts.models import ApiKey, SshKey, User
from station.core.errors import NotFound
from station.core.principal import Principal, Role

Key = TypeVar("Key", ApiKey, SshKey)

_STATES = {"active": "success", "revoked": "danger", "expired": "warning"}


class RevokedFilter(YesNoFilter):
    title = "state"
    parameter_name = "revoked"
    condition = Q(revoked_at__isnull=False)
    words = ("revoked", "not revoked")


class KeyForm(ServiceForm):
    blamed = {NotFound: "environments", NameTaken: "public_key"}


class KeyAdmin(StationAdmin[Key]):
    """What the two kinds of keys share."""

    form = KeyForm
    may_add = "anybody"
    list_filter = [RevokedFilter]

    def formfield_for_foreignkey(
        self, db_field: models.ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        if db_field.remote_field.model is User:
            kwargs["queryset"] = services.visible_users(principal_of(request)).order_by("username")
            kwargs["initial"] = request.user.pk
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @display(description="state")
    def state(self, row: Key) -> SafeString:
        if row.revoked_at is not None:
            return badge("revoked", _STATES)
        expired = row.expires_at is not None and row.expires_at <= timezone.now()
        return badge("expired" if expired else "active", _STATES)

    @display(description="created", ordering="created_at")
    def created(self, row: Key) -> SafeString | str:
        return when(row.created_at)

    @display(description="expires", ordering="expires_at")
    def expires(self, row: Key) -> SafeString | str:
        return when(row.expires_at)

    @display(description="last used", ordering="last_used_at")
    def used(self, row: Key) -> SafeString | str:
        return when(row.last_used_at)

    @display(description="revoked", ordering="revoked_at")
    def revoked(self, row: Key) -> SafeString | str:
        return when(row.revoked_at)


def _revoke_api_key(principal: Principal, row: ApiKey, _: Mapping[str, Any]) -> str:
    services.revoke_api_key(principal, key_id=row.key_id)
    return f"{row} is revoked: it stops working with the next request."


def _revoke_ssh_key(principal: Principal, row: SshKey, _: Mapping[str, Any]) -> str:
    services.revoke_ssh_key(principal, fingerprint=row.fingerprint)
    return f"{row} is revoked."


@admin.register(ApiKey)
class ApiKeyAdmin(KeyAdmin[ApiKey]):
    moves = {
        "revoke": Move(
            label="Revoke",
            icon="block",
            need="anybody",
            do=_revoke_api_key,
            when=lambda row: row.revoked_at is None,
            danger=True,
        )
    }
    list_display = ["name", "beginning", "user", "most", "state", "created", "expires", "used"]
    search_fields = ["name", "key_id", "user__username"]
    asked = ("name", "user", "environments", "role", "expires_at")
    facts = ("name", "beginning", "user", "where", "most", "state", "created", "expires", "used",
             "revoked")  # fmt: skip

    def rows(self, principal: Principal) -> models.QuerySet[ApiKey]:
        return services.visible_api_keys(principal).defer("digest", "pepper_id")

    def formfield_for_manytomany(
        self, db_field: models.ManyToManyField[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> forms.ModelMultipleChoiceField[Any] | None:
        kwargs["queryset"] = self.environments(request)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *rest: Any,
                           **options: Any) -> Any:  # fmt: skip
        context["show_save_and_continue"] = False  # the next page shows the key
        return super().render_change_form(request, context, *rest, **options)

    def store(
        self, principal: Principal, row: ApiKey, given: Mapping[str, Any], *, change: bool
    ) -> ApiKey:
        stored, key = services.create_api_key(
            principal,
            name=given["name"],
            username=given["user"].username,
            environment_ids=[environment.pk for environment in given["environments"]],
            role=Role(given["role"]),
            expires_at=given["expires_at"],
        )
        row.key_id, row.shown_once = stored.key_id, key  # type: ignore[attr-defined]
        return stored

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        """The page with the whole key. It is in this answer only: no message keeps it."""
        context = {
            **self.admin_site.each_context(request),
            "title": "The new API key",
            "opts": self.opts,
            "original": obj,
            "key": obj.shown_once,  # type: ignore[attr-defined]
            "back": self._list_url(),
        }
        headers = {"Cache-Control": "no-store"}
        template = "admin/accounts/apikey/created.html"
        return TemplateResponse(request, template, context, headers=headers)

    @display(description="key")
    def beginning(self, row: ApiKey) -> SafeString:
        return format_html('<code class="st-code">stn_{}_…</code>', row.key_id)

    @display(description="at most", ordering="role")
    def most(self, row: ApiKey) -> str:
        return Role(row.role).label

    @display(description="environments")
    def where(self, row: ApiKey) -> str:
        return ", ".join(e.name for e in row.environments.all()) or "all of its user's"


@admin.register(SshKey)
class SshKeyAdmin(KeyAdmin[SshKey]):
    moves = {
        "revoke": Move(
            label="Revoke",
            icon="block",
            need="anybody",
            do=_revoke_ssh_key,
            when=lambda row: row.revoked_at is None,
            danger=True,
        )
    }
    list_display = ["name", "fingerprint_code", "user", "state", "created", "expires", "used"]
    search_fields = ["name", "fingerprint", "user__username"]
    asked = ("name", "user", "public_key", "expires_at")
    facts = ("name", "fingerprint_code", "user", "public_key", "state", "created", "expires",
             "used", "revoked")  # fmt: skip

    def rows(self, principal: Principal) -> models.QuerySet[SshKey]:
        return services.visible_ssh_keys(principal)

    def formfield_for_dbfield(
        self, db_field: models.Field[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        if db_field.name == "public_key":
            kwargs["widget"] = text_area(3, placeholder="ssh-ed25519 AAAA… you@host")
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name == "name":
            field.required, field.help_text = False, "Empty: the key's comment."
        return field

    def store(
        self, principal: Principal, row: SshKey, given: Mapping[str, Any], *, change: bool
    ) -> SshKey:
        return services.add_ssh_key(
            principal,
            public_key=given["public_key"],
            name=given["name"],
            username=given["user"].username,
            expires_at=given["expires_at"],
        )

    @display(description="fingerprint")
    def fingerprint_code(self, row: SshKey) -> SafeString:
        return format_html('<code class="st-code">{}</code>', row.fingerprint)
