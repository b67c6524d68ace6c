"""Columns and filters that several lists share."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from station.accounts.admin.base import principal_of
from station.accounts.services import visible_environments
from station.commands.text import age, iso
from station.core.principal import Principal

if TYPE_CHECKING:
    from django.contrib.admin import SimpleListFilter as DropdownFilter

    def display(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
else:
    from unfold.contrib.filters.admin import DropdownFilter
    from unfold.decorators import display

__all__ = [
    "ChoiceFilter",
    "DropdownFilter",
    "EnvironmentFilter",
    "YesNoFilter",
    "badge",
    "display",
    "when",
]

_MOST_CHOICES = 500


def when(moment: datetime | None) -> SafeString | str:
    """How long ago, with the moment itself where the pointer rests."""
    if moment is None:
        return "-"
    return format_html(
        '<time datetime="{0}" title="{0}" class="st-nowrap">{1}</time>', iso(moment), age(moment)
    )


def badge(text: str, tones: Mapping[str, str]) -> SafeString:
    """A word on its colour: success, danger, warning, info or primary; plain where none is."""
    return format_html('<span class="st-badge st-{}">{}</span>', tones.get(text, "plain"), text)


class ChoiceFilter(DropdownFilter):
    """A filter by one of some rows the principal may see."""

    column: ClassVar[str]

    def options(self, principal: Principal) -> Iterable[tuple[str, str]]:
        """``(value, text)`` of each choice."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(self.options(principal_of(request)))

    def has_output(self) -> bool:
        return True

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Any]
    ) -> models.QuerySet[Any]:
        chosen = self.value()
        if not chosen:
            return queryset
        if not chosen.isdecimal() or len(chosen) >= 19:
            return queryset.none()
        return queryset.filter(**{self.column: int(chosen)})


class EnvironmentFilter(ChoiceFilter):
    """By environment, of those one is a member of."""

    title = "environment"
    parameter_name = "environment"
    column = "environment_id"

    def options(self, principal: Principal) -> Iterable[tuple[str, str]]:
        for pk, name in visible_environments(principal).values_list("pk", "name")[:_MOST_CHOICES]:
            yield str(pk), name


class YesNoFilter(DropdownFilter):
    """By a condition that holds or does not."""

    condition: ClassVar[models.Q]
    words: ClassVar[tuple[str, str]] = ("yes", "no")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(zip(("yes", "no"), self.words, strict=True))

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Any]
    ) -> models.QuerySet[Any]:
        match self.value():
            case "yes":
                return queryset.filter(self.condition)
            case "no":
                return queryset.exclude(self.condition)
            case _:
                return queryset
