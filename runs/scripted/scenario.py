"""What a scenario file may say, and which scenario and turn a request gets."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from station.core.errors import InvalidInput

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)")


def _seconds(value: object) -> object:
    """``"250ms"``, ``"1s"`` or a number of seconds; anything else is left to pydantic to refuse."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return float(match[1]) * _UNITS[match[2]]
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Fault(_Part):
    times: int | None = Field(default=None, ge=1)
    """Strike only the first ``times`` tries of one and the same request; None: every try."""


class ErrorFault(Fault):
    """Answer with an OpenAI error body."""

    status: int = Field(ge=400, le=599)
    message: str = "the script says so"
    type: str = "scripted_error"
    code: str | None = None
    retry_after: float | str | None = None
    """Sent as the Retry-After header: seconds, or text such as an HTTP date."""


class MalformedFault(Fault):
    """Answer 200 with something that is not a completion."""

    how: Literal["not_json", "wrong_shape", "empty", "html"] = "not_json"


class BreakFault(Fault):
    """Cut the connection after ``after`` streamed pieces (unstreamed: after half of the body)."""

    after: int = Field(default=1, ge=0)


class EndlessFault(Fault):
    """Never finish the answer; ``drip`` paces it, without it the socket does."""


class ToolCall(_Part):
    name: str
    arguments: Any = Field(default_factory=dict)
    raw_arguments: str | None = None
    """Sent untouched instead of ``arguments``, to play a model that writes broken JSON."""


class UsageScript(_Part):
    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    cached_tokens: int = Field(default=0, ge=0)


class Turn(_Part):
    say: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    delay: Seconds = 0.0
    drip: Seconds = 0.0
    finish_reason: str | None = None
    usage: UsageScript | None = None
    """None: estimated at four characters a token."""
    error: ErrorFault | None = None
    malformed: MalformedFault | None = None
    cut: BreakFault | None = Field(default=None, alias="break")
    endless: EndlessFault | None = None

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        """``malformed: html``, ``break: 2`` and ``endless: true`` mean their long forms."""
        if not isinstance(value, dict):
            return value
        turn = dict(value)
        if isinstance(turn.get("malformed"), str):
            turn["malformed"] = {"how": turn["malformed"]}
        if isinstance(turn.get("break"), int):
            turn["break"] = {"after": turn["break"]}
        if turn.get("endless") is True:
            turn["endless"] = {}
        return turn


class Scenario(_Part):
    name: str = Field(min_length=1)
    models: tuple[str, ...] = ()
    when: str | None = None
    after_last: Literal["stop", "repeat", "loop"] = "stop"
    turns: tuple[Turn, ...] = Field(min_length=1)

    def answers_to(self, model: str, first_user_message: str) -> bool:
        models = self.models or (self.name,)
        if model not in models and "*" not in models:
            return False
        return self.when is None or self.when in first_user_message

    def turn(self, number: int) -> Turn | None:
        """The turn with this number, from 0; None when the script has ended."""
        if number < len(self.turns):
            return self.turns[number]
        if self.after_last == "stop":
            return None
        return self.turns[-1 if self.after_last == "repeat" else number % len(self.turns)]


class Script(_Part):
    """A whole scenario file."""

    about: str = ""
    scenarios: tuple[Scenario, ...] = Field(min_length=1)

    @property
    def models(self) -> list[str]:
        """The model names it answers to, in file order, without the ``*``."""
        names = [m for s in self.scenarios for m in (s.models or (s.name,)) if m != "*"]
        return list(dict.fromkeys(names))

    def choose(self, model: str, first_user_message: str) -> Scenario | None:
        for scenario in self.scenarios:
            if scenario.answers_to(model, first_user_message):
                return scenario
        return None

    @classmethod
    def parse(cls, value: Mapping[str, Any], *, source: str = "scenario") -> Self:
        """Check a scenario file's content.

        Raises:
            InvalidInput: naming the first wrong field by its path, as ``source: path``.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"{source}: {path}", first["msg"]) from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML or JSON scenario file.

        Raises:
            InvalidInput: the file cannot be read, is not YAML, or has a wrong field.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InvalidInput(str(path), f"cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidInput(str(path), f"is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise InvalidInput(str(path), "must be a mapping with the key `scenarios`")
        return cls.parse(content, source=str(path))
