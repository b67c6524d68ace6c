"""Users: platform admins see everybody, others themselves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from station.accounts import services
from station.accounts.admin.base import StationAdmin, TabularInline, principal_of, row_url
from station.accounts.admin.columns import YesNoFilter, badge, display, when
from station.accounts.admin.forms import ServiceForm
from station.accounts.errors import NameTaken
from station.accounts.models import Membership, User
from station.core.errors import InvalidInput, StationError
from station.core.principal import Principal, Role

if TYPE_CHECKING:
    from django.forms import CheckboxInput as UnfoldBooleanSwitchWidget
    from django.forms import PasswordInput as UnfoldAdminPasswordWidget
else:
    from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldBooleanSwitchWidget

_KINDS = {"platform admin": "warning", "service account": "info"}

_STATES = {"active": "success", "disabled": "danger"}


def _password(**options: Any) -> forms.CharField:
    widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})
    return forms.CharField(strip=False, widget=widget, **options)


class NewUserForm(ServiceForm):
    password = _password(required=False, help_text="Empty: nobody logs in until one is set.")
    platform_admin = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="May do anything in every environment.",
    )
    service_account = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Authenticates by API key only, and never logs in.",
    )
    blamed = {NameTaken: "username"}


class PasswordForm(forms.Form):
    """A new password for somebody else, twice."""

    password = _password(label="New password")
    again = _password(label="New password, again")

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if "again" in given and given.get("password") != given["again"]:
            self.add_error("again", "The two are not the same.")
        return given


class RoleInline(TabularInline[Membership, User]):
    """The user's roles; :meth:`UserAdmin.save_related` stores them by the service."""

    model = Membership
    fields = ["environment", "role"]
    extra = 0
    verbose_name = "role"
    verbose_name_plural = "roles in environments"

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Membership]:
        return Membership.objects.select_related("environment").order_by("environment__name")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return principal_of(request).platform_admin

    has_change_permission = has_delete_permission = has_add_permission


class KindFilter(admin.SimpleListFilter):
    title = "kind"
    parameter_name = "kind"
    conditions = {
        "admins": Q(is_superuser=True),
        "people": Q(is_service_account=False),
        "services": Q(is_service_account=True),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        words = ("platform admins", "people", "service accounts")
        return list(zip(self.conditions, words, strict=True))

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[User]
    ) -> models.QuerySet[User]:
        return queryset.filter(self.conditions.get(self.value() or "", Q()))


class ActiveFilter(YesNoFilter):
    title = "state"
    parameter_name = "active"
    condition = Q(is_active=True)
    words = ("active", "disabled")


@admin.register(User)
class UserAdmin(StationAdmin[User]):
    form = NewUserForm
    may_add = may_change = "platform admin"
    inlines = [RoleInline]
    list_display = ["username", "email", "kind", "state", "roles", "seen"]
    list_filter = [ActiveFilter, KindFilter]
    search_fields = ["username", "email"]
    change_form_outer_before_template = "admin/accounts/user/links.html"
    asked = ("username", "email", "password", "platform_admin", "service_account")
    facts = ("username", "email", "kind", "state", "joined", "seen")

    def rows(self, principal: Principal) -> models.QuerySet[User]:
        return services.visible_users(principal)

    def get_inlines(self, request: HttpRequest, obj: User | None) -> list[Any]:
        return [] if obj is None else [RoleInline]

    def store(
        self, principal: Principal, row: User, given: Mapping[str, Any], *, change: bool
    ) -> User:
        if change:
            return row
        return services.create_user(
            principal,
            username=given["username"],
            email=given["email"],
            password=given["password"] or None,
            platform_admin=given["platform_admin"],
            service_account=given["service_account"],
        )

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        principal = principal_of(request)
        for formset in formsets:
            wanted: dict[int, Role | None] = {}
            for row_form in formset.forms:
                row, given = row_form.instance, row_form.cleaned_data
                if row.pk and "environment" in row_form.changed_data:
                    wanted.setdefault(row_form.initial["environment"], None)
                if not given or (given.get("DELETE") and not row.pk):
                    continue
                role = None if given.get("DELETE") else Role(given["role"])
                wanted[given["environment"].pk] = role
            for environment_id, role in wanted.items():
                services.set_role(
                    principal,
                    username=form.instance.username,
                    environment_id=environment_id,
                    role=role,
                )

    # The password

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.password_view)
        return [
            path("<int:user_id>/password/", view, name="accounts_user_password"),
            *super().get_urls(),
        ]

    def password_view(self, request: HttpRequest, user_id: int) -> HttpResponse:
        """A form for somebody's new password; for one's own, the page that asks for the old."""
        principal = principal_of(request)
        if user_id == principal.user_id:
            return HttpResponseRedirect(reverse("admin:password_change"))
        if not principal.platform_admin:
            raise PermissionDenied
        row = self.get_object(request, str(user_id))
        if row is None:
            return self.gone(request, str(user_id))
        form = PasswordForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                services.set_password(
                    principal, username=row.username, password=form.cleaned_data["password"]
                )
            except InvalidInput as error:
                form.add_error("password", f"{error.problem} {error.fix}".strip())
            except StationError as error:
                form.add_error(None, str(error))
            else:
                self.message_user(request, f"{row} has a new password.", messages.SUCCESS)
                return HttpResponseRedirect(row_url(row))
        context = {
            **self.admin_site.each_context(request),
            "title": f"Password of {row}",
            "opts": self.opts,
            "original": row,
            "form": form,
            "back": row_url(row),
        }
        return TemplateResponse(request, "admin/accounts/user/password.html", context)

    # Columns

    @display(description="kind")
    def kind(self, row: User) -> SafeString:
        if row.is_superuser:
            return badge("platform admin", _KINDS)
        return badge("service account" if row.is_service_account else "person", _KINDS)

    @display(description="state")
    def state(self, row: User) -> SafeString:
        return badge("active" if row.is_active else "disabled", _STATES)

    @display(description="roles")
    def roles(self, row: User) -> SafeString | str:
        held = [f"{m.environment.name}: {Role(m.role).label}" for m in row.memberships.all()]
        rest = f" and {len(held) - 3} more" if len(held) > 3 else ""
        return format_html("{}{}", ", ".join(held[:3]), rest) if held else "-"

    @display(description="last log-in", ordering="last_login")
    def seen(self, row: User) -> SafeString | str:
        return when(row.last_login)

    @display(description="joined", ordering="date_joined")
    def joined(self, row: User) -> SafeString | str:
        return when(row.date_joined)
