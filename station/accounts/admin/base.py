"""What every page of the web admin shares.

Rows come from the services' querysets, so that people see only what belongs to the environments
they are members of; rights come from their roles there; every change is a call of a service, and
what a service refuses becomes an error of the form or a message.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import quote
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from station.accounts import principals
from station.accounts.admin.forms import ListActionForm, ServiceForm
from station.accounts.models import Environment, User
from station.accounts.services import visible_environments
from station.core.errors import StationError
from station.core.principal import Principal, Role
from station.observe.context import bind_principal

if TYPE_CHECKING:  # unfold has no types; its classes are Django's, with other templates
    from django.contrib.admin import ModelAdmin, TabularInline
else:
    from unfold.admin import ModelAdmin, TabularInline

Row = TypeVar("Row", bound=models.Model)
Need = Role | Literal["anybody", "platform admin"] | None
"""Who may: a role in the row's environment, or one of the words; ``None`` is nobody."""

__all__ = [
    "Move",
    "Need",
    "ReadOnlyInline",
    "StationAdmin",
    "TabularInline",
    "move_url",
    "principal_of",
    "row_url",
]
_PRINCIPAL = "station_principal"
_REFUSAL = "station_refusal"
_MOST_REFUSALS = 5


def principal_of(request: HttpRequest) -> Principal:
    """Who is asking, made once a request."""
    known: Principal | None = getattr(request, _PRINCIPAL, None)
    if known is None:
        assert isinstance(request.user, User)
        known = principals.for_user(request.user)
        bind_principal(known)
        setattr(request, _PRINCIPAL, known)
    return known


@dataclass(frozen=True, kw_only=True)
class Move(Generic[Row]):
    """Something that can be done to a row by a button on its page, or to many from the list.

    ``do`` calls the service and returns what to tell the person; its last argument is what the
    button or the list carried. ``when`` says whether the button makes sense for the row.
    """

    label: str
    icon: str
    need: Need
    do: Callable[[Principal, Row, QueryDict], str]
    when: Callable[[Row], bool] = lambda row: True
    carries: Callable[[Row], Mapping[str, str]] = lambda row: {}
    listed: bool = True
    danger: bool = False


class StationAdmin(ModelAdmin[Row]):
    """The base of every admin class; subclasses say where rows come from and who may what."""

    form = ServiceForm
    """The form that adds a row."""
    action_form = ListActionForm
    page_form: ClassVar[type[ServiceForm]] = ServiceForm
    """The form on the page of a row."""
    asked: ClassVar[Sequence[str]] = ()
    """The fields of a new row."""
    facts: ClassVar[Sequence[str]] = ()
    """What the page of a row says."""
    changed: ClassVar[Sequence[str]] = ()
    """What the page of a row lets be changed by who may."""
    readable: ClassVar[Sequence[str]] = ()
    """What of it everybody reads."""
    may_add: ClassVar[Need] = None
    may_change: ClassVar[Need] = None
    may_delete: ClassVar[Need] = None
    moves: ClassVar[Mapping[str, Move[Any]]] = {}
    filterable: ClassVar[tuple[str, ...]] = ()
    """Columns that addresses may filter by, beside the declared filters."""

    list_per_page = 50
    list_filter_submit = True
    list_fullwidth = True
    compressed_fields = False
    change_form_outer_before_template = "admin/station/moves.html"

    # Rows and rights

    def rows(self, principal: Principal) -> models.QuerySet[Row]:
        """What the principal may see."""
        raise NotImplementedError

    def environment_id_of(self, row: Row) -> int | None:
        """The environment whose roles decide about the row; ``None`` leaves it to the words."""
        found: int | None = getattr(row, "environment_id", None)
        return found

    def allows(self, request: HttpRequest, need: Need, row: Row | None = None) -> bool:
        """Whether who asks may; without a row, whether there is any they may do it to."""
        if need is None:
            return False
        principal = principal_of(request)
        if principal.platform_admin or need == "anybody":
            return True
        if not isinstance(need, Role):
            return False
        if row is None:
            return any(role >= need for role in principal.roles.values())
        environment_id = self.environment_id_of(row)
        held = None if environment_id is None else principal.role_in(environment_id)
        return held is not None and held >= need

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Row]:
        return self.rows(principal_of(request))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_staff

    def has_view_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        if not self.has_module_permission(request):
            return False
        environment_id = None if obj is None else self.environment_id_of(obj)
        return environment_id is None or principal_of(request).role_in(environment_id) is not None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request) and self.allows(request, self.may_add)

    def has_change_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return self.has_module_permission(request) and self.allows(request, self.may_change, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return self.has_module_permission(request) and self.allows(request, self.may_delete, obj)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only declared filters: others would tell, bit by bit, what no page shows."""
        names = {getattr(declared, "parameter_name", None) for declared in self.list_filter}
        return lookup in names or lookup.partition("__")[0] in self.filterable

    # Forms that call services

    def get_fields(self, request: HttpRequest, obj: Row | None = None) -> list[Any]:
        if obj is None:
            return list(self.asked)
        may = self.has_change_permission(request, obj)
        return [*self.facts, *(self.changed if may else self.readable)]

    def get_readonly_fields(self, request: HttpRequest, obj: Row | None = None) -> list[Any]:
        return [] if obj is None else list(self.facts)

    def store(
        self, principal: Principal, row: Row, given: Mapping[str, Any], *, change: bool
    ) -> models.Model:
        """Create or change by a service.

        ``given`` is the form's cleaned data; of a form that merges, what its person changed.
        """
        raise NotImplementedError

    def remove(self, principal: Principal, row: Row) -> None:
        """Delete by a service."""
        raise NotImplementedError

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """The form; when the service refuses, nothing is stored and the form says why."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except StationError as error:
            if request.method != "POST" or hasattr(request, _REFUSAL):
                raise
            setattr(request, _REFUSAL, error)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(
        self, request: HttpRequest, obj: Row | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[Row]]:
        kwargs.setdefault("form", self.form if obj is None else self.page_form)
        made = super().get_form(request, obj, change=change, **kwargs)
        if issubclass(made, ServiceForm):
            made.refusal = getattr(request, _REFUSAL, None)
            made.principal = principal_of(request)
        return made

    def save_model(
        self, request: HttpRequest, obj: Row, form: forms.ModelForm[Row], change: bool
    ) -> None:
        given = form.cleaned_data
        if change and getattr(form, "merges", False):
            given = {name: given[name] for name in form.changed_data}
        stored = self.store(principal_of(request), obj, given, change=change)
        obj.pk = stored.pk

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Store nothing: the services store relations too. Django's log wants these lists."""
        for formset in formsets:
            formset.new_objects = formset.changed_objects = formset.deleted_objects = []

    def delete_model(self, request: HttpRequest, obj: Row) -> None:
        self.remove(principal_of(request), obj)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> Any:
        try:
            return super().delete_view(request, object_id, extra_context)
        except StationError as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(self._list_url())

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What goes with a row follows from its service; who may delete the one may the rest."""
        shown, counts, _, protected = super().get_deleted_objects(objs, request)
        return shown, counts, set(), protected

    def formfield_for_foreignkey(
        self, db_field: models.ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        if db_field.remote_field.model is Environment:
            kwargs["queryset"] = self.environments(request)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def environments(self, request: HttpRequest) -> models.QuerySet[Environment]:
        """The environments in which who asks may add."""
        principal = principal_of(request)
        rows = visible_environments(principal)
        if principal.platform_admin or not isinstance(self.may_add, Role):
            return rows
        return rows.filter(pk__in=[e for e, r in principal.roles.items() if r >= self.may_add])

    def formfield_for_dbfield(
        self, db_field: models.Field[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget.can_add_related = field.widget.can_change_related = False
            field.widget.can_delete_related = field.widget.can_view_related = False
        return field

    # Moves

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_do"
        view = self.admin_site.admin_view(require_POST(self.move_view))
        return [path("<path:object_id>/do/<slug:move>/", view, name=name), *super().get_urls()]

    def move_view(self, request: HttpRequest, object_id: str, move: str) -> HttpResponse:
        """Do a move, and go back to where it was asked for."""
        row = self.get_object(request, object_id)
        if row is None or move not in self.moves:
            return self.gone(request, object_id)
        chosen = self.moves[move]
        if not self.allows(request, chosen.need, row):
            raise PermissionDenied
        try:
            said = chosen.do(principal_of(request), row, request.POST)
        except StationError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, said, messages.SUCCESS)
        return HttpResponseRedirect(self.after_move(request, row))

    def gone(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The answer for a row that does not exist, or not for who asks; as Django's pages do."""
        text = f"There is no {self.opts.verbose_name} {object_id!r} that you may see."
        self.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(reverse("admin:index"))

    def after_move(self, request: HttpRequest, row: Row) -> str:
        """Where to go after a move."""
        return row_url(row)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """The listed moves, as actions on the chosen rows."""
        return {
            name: (_many(move), name, move.label)
            for name, move in self.moves.items()
            if move.listed and self.allows(request, move.need)
        }

    def render_change_form(  # noqa: PLR0917 - as Django has it
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Row | None = None,
    ) -> Any:
        context["show_save_and_add_another"] = False
        if obj is not None:
            context["moves"] = list(self._buttons(request, obj))
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _buttons(self, request: HttpRequest, row: Row) -> Iterable[Mapping[str, Any]]:
        for name, move in self.moves.items():
            if move.when(row) and self.allows(request, move.need, row):
                yield {
                    "url": move_url(row, name),
                    "label": move.label,
                    "icon": move.icon,
                    "danger": move.danger,
                    "carries": move.carries(row),
                }

    def _list_url(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")


def row_url(row: models.Model) -> str:
    """The address of a row's page."""
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_change"
    return reverse(name, args=[quote(row.pk)])


def move_url(row: models.Model, move: str) -> str:
    """The address that a button for the move posts to."""
    name = f"admin:{row._meta.app_label}_{row._meta.model_name}_do"
    return reverse(name, args=[quote(row.pk), move])


def _many(move: Move[Any]) -> Callable[[Any, HttpRequest, models.QuerySet[Any]], None]:
    """An action that makes the move with each chosen row and tells how it went."""

    def action(
        model_admin: StationAdmin[Any], request: HttpRequest, queryset: models.QuerySet[Any]
    ) -> None:
        done, refused = 0, []
        for row in queryset:
            try:
                with transaction.atomic():
                    move.do(principal_of(request), row, request.POST)
                done += 1
            except StationError as error:
                refused.append(str(error))
        for text in refused[:_MOST_REFUSALS]:
            model_admin.message_user(request, text, messages.ERROR)
        if (more := len(refused) - _MOST_REFUSALS) > 0:
            model_admin.message_user(request, f"{more} more were refused.", messages.ERROR)
        if done:
            model_admin.message_user(request, f"{move.label}: {done} done.", messages.SUCCESS)

    return action


class ReadOnlyInline(TabularInline[Any, Any]):
    """Rows shown on the page of what they belong to."""

    extra = 0
    can_delete = False
    show_change_link = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
