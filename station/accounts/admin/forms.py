"""Forms whose rules are the services': what a service refuses is shown at the field it names."""

import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.utils.functional import cached_property

from station.core.errors import InvalidInput, StationError
from station.core.principal import Principal

if TYPE_CHECKING:
    from django.contrib.admin.helpers import ActionForm
    from django.forms import Textarea as UnfoldAdminTextareaWidget
    from django.forms import TextInput as UnfoldAdminTextInputWidget
else:
    from unfold.forms import ActionForm
    from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

ONCE = "once"
"""The name under which pages carry a key of their own."""
DOTS = "••••••••"


class ServiceForm(forms.ModelForm[Any]):
    """A form of an admin page. ``refusal`` is why the service refused what it held before.

    Only fields are checked here; uniqueness and the like is the service's to say.
    """

    principal: ClassVar[Principal]
    refusal: ClassVar[StationError | None] = None
    blamed: ClassVar[Mapping[type[StationError], str]] = {}
    """The fields to show errors at that name none."""
    merges: ClassVar[bool] = False
    """The page of a row sends back what it showed, and only what differs from that is a change:
    what somebody else changed meanwhile stays. For fields that are one text each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.merges and self.instance.pk is not None:
            for field in self.fields.values():
                field.show_hidden_initial = True

    @cached_property
    def changed_data(self) -> list[str]:
        if not self.merges or not self.is_bound:
            return super().changed_data
        return [name for name in self.fields if self._differs(self[name])]

    def _differs(self, bound: forms.BoundField) -> bool:
        if bound.html_initial_name not in self.data:  # this did not come from the page
            return bound.field.has_changed(bound.initial, bound.data)
        return _as_typed(self.data[bound.html_initial_name]) != _as_typed(bound.data)

    def validate_unique(self) -> None: ...

    def _update_errors(self, errors: ValidationError) -> None:
        errors.error_dict.pop(NON_FIELD_ERRORS, None)  # the model's constraints
        super()._update_errors(errors)  # type: ignore[misc] # Django's own hook, not in the stubs

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc] # Django's own hook, not in the stubs
        if self.refusal is not None:
            field, text = self._blame(self.refusal)
            self.add_error(field if field in self.fields else None, text)

    def _blame(self, error: StationError) -> tuple[str | None, str]:
        if isinstance(error, InvalidInput):
            field = re.split(r"[.\[]", error.field, maxsplit=1)[0]
            where = error.field[len(field) :].lstrip(".")
            if field not in self.fields:
                where = error.field
            said = f"{where}: {error.problem}" if where else error.problem
            return field, f"{said[:1].upper()}{said[1:]}. {error.fix}".replace("..", ".").strip()
        for kind, field in self.blamed.items():
            if isinstance(error, kind):
                return field, str(error)
        return None, str(error)


def _as_typed(text: str | None) -> str:
    """A text as its area shows it: browsers change the ends of lines and drop a first empty one."""
    return plain_lines(text or "").removeprefix("\n")


def plain_lines(text: str) -> str:
    """``text`` with the ends of lines as the rest of the world writes them."""
    return text.replace("\r\n", "\n")


class Text(forms.CharField):
    """A text of several lines, kept as it was typed but for how browsers end them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)

    def to_python(self, value: Any) -> Any:
        return plain_lines(super().to_python(value) or "")


def key_of_the_page() -> str:
    """A key that is another one on every page: what is sent twice from one page is done once."""
    return secrets.token_urlsafe(16)


class ListActionForm(ActionForm):
    """The choice of what to do with rows of a list."""

    once = forms.CharField(
        required=False, widget=forms.HiddenInput, label="", initial=key_of_the_page
    )


class Lines(forms.CharField):
    """A list of texts, one a line."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("required", False)
        kwargs.setdefault("widget", UnfoldAdminTextareaWidget(attrs={"rows": 4}))
        super().__init__(strip=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return value if isinstance(value, str) or value is None else "\n".join(map(str, value))

    def clean(self, value: Any) -> list[str]:
        return [line for line in str(super().clean(value)).splitlines() if line.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return list(initial or ()) != self.clean(data)


class Pairs(forms.CharField):
    """Named texts, one a line, like ``NAME=value``; ``separator`` is what stands between."""

    def __init__(self, *, separator: str, **kwargs: Any) -> None:
        self._separator = separator
        kwargs.setdefault("required", False)
        kwargs.setdefault("widget", UnfoldAdminTextareaWidget(attrs={"rows": 4}))
        super().__init__(strip=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return "\n".join(f"{name}{self._separator}{text}" for name, text in value.items())
        return value

    def clean(self, value: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        for number, line in enumerate(str(super().clean(value)).splitlines(), 1):
            if not line.strip():
                continue
            name, separator, text = line.partition(self._separator.strip())
            if not separator or not name.strip():
                raise forms.ValidationError(
                    f"Line {number} is not of the form NAME{self._separator}value."
                )
            found[name.strip()] = text.strip()
        return found

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or {}) != self.clean(data))


class WriteOnly(UnfoldAdminTextareaWidget):
    """A text area that never shows what it was given: dots stand where something is stored."""

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        return super().get_context(name, None, attrs)


def text_area(rows: int, **attrs: Any) -> forms.Widget:
    return UnfoldAdminTextareaWidget(attrs={"rows": rows, **attrs})


def text_input(**attrs: Any) -> forms.Widget:
    return UnfoldAdminTextInputWidget(attrs=attrs)
