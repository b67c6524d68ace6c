"""Field errors of forms, models and serializers as one flat list in the caller's terms."""

from collections.abc import Mapping

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from rest_framework.settings import api_settings

WHOLE = "body"
"""The name of what has no field of its own."""


def flattened(detail: object, path: str = "") -> list[dict[str, str]]:
    """DRF's nested error detail as ``[{field, problem, fix}]`` with dotted paths."""
    if isinstance(detail, Mapping):
        return [
            error
            for name, inner in detail.items()
            for error in flattened(inner, _joined(path, str(name)))
        ]
    if isinstance(detail, (list, tuple)):
        nested = any(isinstance(inner, (Mapping, list)) for inner in detail)
        return [
            error
            for number, inner in enumerate(detail)
            for error in flattened(inner, _joined(path, str(number)) if nested else path)
        ]
    return [{"field": path or WHOLE, "problem": str(detail), "fix": ""}]


def flattened_model(error: ValidationError) -> list[dict[str, str]]:
    """The same of a model's or form's ``ValidationError``."""
    if hasattr(error, "error_dict"):
        return flattened(error.message_dict)
    return flattened(list(error.messages))


def _joined(path: str, name: str) -> str:
    if name in (NON_FIELD_ERRORS, api_settings.NON_FIELD_ERRORS_KEY):
        return path
    return f"{path}.{name}" if path else name
