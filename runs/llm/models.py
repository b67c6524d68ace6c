"""Which provider a model's name means, and what litellm knows of the model."""

from dataclasses import dataclass
from decimal import Decimal

from runs.llm.library import load
from runs.ports import ModelRequest, UnknownProvider, Usage


@dataclass(frozen=True, kw_only=True)
class Target:
    """One model at one provider; ``ours``: the configured one, whose key and address we have."""

    provider: str
    model: str
    ours: bool

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class Models:
    """What litellm knows of the models that a configured ``provider`` and others have."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._schema_supported: dict[Target, bool] = {}
        self._priced: dict[Target, bool] = {}

    def target(self, name: str) -> Target:
        """Split a model's name. The prefix counts only if it is a provider litellm knows."""
        known = {str(getattr(p, "value", p)) for p in load().provider_list}
        prefix, slash, rest = name.partition("/")
        if slash and rest and prefix in known:
            return Target(provider=prefix, model=rest, ours=prefix == self._provider)
        if self._provider not in known:
            raise UnknownProvider(
                f"{self._provider}: there is no such model provider.",
                fix="Set STN_AI_PROVIDER to openai, anthropic, gemini or another litellm provider.",
            )
        return Target(provider=self._provider, model=name, ours=True)

    def takes_schema(self, target: Target, request: ModelRequest) -> bool:
        """Whether the request has an output schema and the model takes one."""
        if request.output_schema is None:
            return False
        if target not in self._schema_supported:
            self._schema_supported[target] = bool(
                load().supports_response_schema(
                    model=target.model, custom_llm_provider=target.provider
                )
            )
        return self._schema_supported[target]

    def cost(self, target: Target, usage: Usage) -> Decimal | None:
        """By litellm's price list; None for a model that is not on it."""
        litellm = load()
        if target not in self._priced:
            self._priced[target] = bool({target.model, str(target)} & litellm.model_cost.keys())
        if not self._priced[target]:
            return None
        try:
            prompt, completion = litellm.cost_per_token(
                model=target.model,
                custom_llm_provider=target.provider,
                prompt_tokens=usage.input_tokens,
                completion_tokens=usage.output_tokens,
                cache_read_input_tokens=usage.cached_tokens,
            )
        except Exception:  # noqa: BLE001 - a price that cannot be computed fails no answer
            return None
        return Decimal(str(prompt)) + Decimal(str(completion))
