"""What the agent loop says to the world: a model and a toolbox, as small Protocols.

Pure Python: the loop, its fakes and every adapter share these shapes and nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

from station.core import strict_json
from station.core.errors import Kind, StationError


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call the model asked for."""

    id: str
    name: str
    raw_arguments: str
    """The text the model wrote."""

    @cached_property
    def arguments(self) -> dict[str, Any] | None:
        """What the text says; ``None`` when it is no JSON object."""
        try:
            return self.read_arguments()
        except ValueError:
            return None

    def read_arguments(self) -> dict[str, Any]:
        """What the text says. Nothing written means none, as models do for such tools.

        Raises:
            ValueError: it is no JSON object; the message says why not.
        """
        value = strict_json.loads(self.raw_arguments) if self.raw_arguments.strip() else {}
        if not isinstance(value, dict):
            raise ValueError("it is something else")
        return value


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of the conversation. ``tool_call_id`` is set for the role ``tool`` only."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ToolSpec:
    """A tool as the model sees it. ``name`` matches ``[a-zA-Z0-9_-]{1,64}``."""

    name: str
    description: str
    input_schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """A question to a model."""

    model: str
    """As the agent's author wrote it: ``gpt-4`` or ``anthropic/claude-sonnet-4-5``."""
    fallback_models: tuple[str, ...] = ()
    """Asked in this order when the one before could not answer."""
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    parameters: Mapping[str, Any]
    """Temperature and the like, by their OpenAI names."""
    output_schema: Mapping[str, Any] | None = None
    """JSON schema the answer should follow; the model may still not, so check it."""
    deadline: float
    """On ``time.monotonic()``'s clock, seconds; attempts, waits and fallbacks all end by then."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens; ``cached_tokens`` are part of ``input_tokens``."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelAnswer:
    """What a model answered."""

    content: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    cost_usd: Decimal | None
    """None when the price of the model is not known."""
    model: str
    """The one that answered, with its provider: ``openai/gpt-4``."""
    finish_reason: str
    duration: float
    """Seconds of the attempt that succeeded."""
    attempts: int
    """HTTP requests sent, over all models asked."""


@dataclass(frozen=True, kw_only=True)
class ToolOutcome:
    """What a tool returned: ``text`` is what the model reads."""

    text: str
    structured: Any | None
    is_error: bool
    truncated: bool


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Whether a model provider may be asked."""

    wait: float | None = None
    """``None``: ask it now. Else the seconds after which that may be worth a try."""
    trial: bool = False
    """It failed of late: nobody else asks it until this request has told how it went."""


class Circuits(Protocol):
    """Whether model providers answer; :class:`runs.circuits.Circuits` is the shared one."""

    async def admit(self, provider: str, *, patience: float) -> Admission:
        """Whether to ask it now. Who is the trial is so for ``patience`` seconds at the most."""
        ...

    async def withdraw(self, provider: str) -> None:
        """Who was admitted as the trial has not asked, or has not waited for an answer."""
        ...

    async def failed(self, provider: str, problem: str) -> float | None:
        """It could not be reached, or failed. Seconds of pause, if nobody shall ask it now."""
        ...

    async def succeeded(self, provider: str) -> None:
        """It answered, whatever it said."""
        ...


class ModelClient(Protocol):
    """Asks models."""

    async def ask(
        self,
        request: ModelRequest,
        *,
        on_delta: Callable[[str], None] | None = None,
        on_retry: "Callable[[ModelFailure, float], None] | None" = None,
        before_send: Callable[[], None] | None = None,
    ) -> ModelAnswer:
        """Ask until there is an answer, the tries are used up or the deadline has passed.

        Args:
            on_delta: gets the answer's text in pieces as it is written.
            on_retry: told what failed and in how many seconds the next try starts (0: now, with
                the next model); pieces passed to ``on_delta`` so far are void then.
            before_send: called right before every HTTP request; what it raises ends the asking
                and propagates unchanged.

        Raises:
            ModelFailure: see its subclasses.
        """
        ...


class Toolbox(Protocol):
    """The tools one run may use."""

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools, in a stable order."""
        ...

    def is_repeatable(self, name: str) -> bool:
        """Whether a call whose fate is unknown may be made again."""
        ...

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        key: str,
        timeout: float,
        before_send: Callable[[], None] | None = None,
    ) -> ToolOutcome:
        """Call a tool. ``key`` names this call across repetitions; ``timeout`` is in seconds.

        ``before_send`` is called right before each sending; what it raises ends the call unsent.
        """
        ...


class ModelFailure(StationError):
    """The model could not be asked, or did not answer."""

    code = "model_failed"
    kind = Kind.UNAVAILABLE
    permanent: bool = False
    """True when asking the same again is pointless."""

    def __init__(
        self,
        message: str | None = None,
        *,
        fix: str = "",
        retry_after: float | None = None,
        permanent: bool | None = None,
    ) -> None:
        """``retry_after``: seconds the provider asked for; ``permanent``: if not the class's."""
        super().__init__(message, fix=fix)
        self.retry_after = retry_after
        if permanent is not None:
            self.permanent = permanent

    def details(self) -> dict[str, Any]:
        wait = {} if self.retry_after is None else {"retry_after": self.retry_after}
        return {"permanent": self.permanent, **wait}


class _Permanent(ModelFailure):
    """The model will not answer this."""

    code: ClassVar[str] = "model_failed"
    kind = Kind.FAILED
    permanent = True


class ModelAuth(_Permanent):
    """The model provider refused the API key."""

    code = "model_auth"


class ModelNotFound(_Permanent):
    """The model provider does not know this model."""

    code = "model_not_found"


class ModelBadRequest(_Permanent):
    """The model provider refused the request."""

    code = "model_bad_request"


class ContextTooLong(_Permanent):
    """The conversation is longer than the model can read."""

    code = "context_too_long"


class ContentRefused(_Permanent):
    """The model or its provider refused to answer because of the content."""

    code = "content_refused"


class UnknownProvider(_Permanent):
    """There is no such model provider."""

    code = "unknown_provider"


class ModelRateLimited(ModelFailure):
    """The model provider is limiting our requests."""

    code = "model_rate_limited"


class ModelUnavailable(ModelFailure):
    """The model provider cannot be reached, or failed."""

    code = "model_unavailable"


class ModelCircuitOpen(ModelUnavailable):
    """The model provider failed again and again; nobody asks it for a while."""

    code = "model_circuit_open"
    in_vain: float = 0.0
    """Seconds of the request that showed it once more; they are nobody's running time."""


class ModelMalformed(ModelFailure):
    """The model provider sent an answer that cannot be read."""

    code = "model_malformed"


class ModelDeadline(ModelFailure):
    """The time for this request ran out before the model had answered."""

    code = "model_deadline"

    def __init__(self, message: str | None = None, *, silent: bool = False) -> None:
        """``silent``: nothing at all had come from it."""
        super().__init__(message)
        self.silent = silent
