"""Forms whose rules are the services': what a service refuses is shown at the field it names."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from station.core.errors import InvalidInput, StationError
from station.core.principal import Principal

if TYPE_CHECKING:
    from django.forms import Textarea as UnfoldAdminTextareaWidget
    from django.forms import TextInput as UnfoldAdminTextInputWidget
else:
    from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

DOTS = "••••••••"


class ServiceForm(forms.ModelForm[Any]):
    """A form of an admin page. ``refusal`` is why the service refused what it held before.

    Only fields are checked here; uniqueness and the like is the service's to say.
    """

    principal: ClassVar[Principal]
    refusal: ClassVar[StationError | None] = None
    blamed: ClassVar[Mapping[type[StationError], str]] = {}
    """The fields to show errors at that name none."""

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
