"""Prices that come along: those that providers publish, as the package genai-prices collects them, read offline.

The package is an extra. It knows a model by the provider's own patterns, prices by the day of the call and the tier of
service, and tokens of audio and of each kind of cache apart.
"""

from __future__ import annotations

from datetime import datetime, timezone
from importlib.util import find_spec
from typing import Any

from spanrelay.plugins.catalogs import Cost
from spanrelay.records import SpanRecord, Usage

PACKAGE = "genai-prices"

_THEIRS = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
}
"""What the package calls a provider, by `gen_ai.provider.name`, where it is another word."""

_COUNTS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
}
"""By the field of our `Usage`: the package's name of the same count."""


def is_installed() -> bool:
    """Whether the package is there."""
    return find_spec("genai_prices") is not None


class PublishedPrices:
    """The prices in the installed version of genai-prices, asked as a `PriceList` is."""

    __slots__ = ("_found", "_snapshot", "_usage")

    def __init__(self) -> None:
        from genai_prices import Usage as Counts
        from genai_prices.data_snapshot import get_snapshot

        self._usage: Any = Counts
        self._snapshot: Any = get_snapshot
        self._found: dict[tuple[str | None, str], Any] = {}

    def price(self, record: SpanRecord) -> Cost | None:
        """Return what the response of a record costs; None where the model is not known, or no token is reported."""
        response = record.response
        if response is None or response.usage is None or not _is_counted(response.usage):
            return None
        asked = record.request.model if record.request is not None else None
        models = (self._find(record.provider, model) for model in (response.model, asked) if model)
        found = next((each for each in models if each is not None), None)
        if found is None:
            return None
        provider, model = found
        begun = datetime.fromtimestamp(record.start / 1e9, timezone.utc) if record.start else datetime.now(timezone.utc)
        tier = response.parameters.get("service_tier")
        told = {"service_tier": tier} if isinstance(tier, str) else None
        if not _has_own_prices(model.get_prices(begun, told), response.usage):
            return _UNKNOWN
        try:
            counts = self._counts(response.usage)
            cost = model.calc_price(counts, provider, genai_request_timestamp=begun, price_context=told)
        except ValueError:  # counts that contradict each other, or that leave open which price they have
            return _UNKNOWN
        prompt, output, total = (float(part) for part in (cost.input_price, cost.output_price, cost.total_price))
        return Cost("USD", prompt, output, 0.0, 0.0, total)

    def _counts(self, usage: Usage) -> Any:
        return self._usage(**{theirs: getattr(usage, ours) for ours, theirs in _COUNTS.items()})

    def _find(self, provider: str | None, model: str) -> Any:
        key = (provider, model)
        if key not in self._found:
            if len(self._found) > 1000:  # names come from outside
                self._found.clear()
            self._found[key] = self._look_up(provider, model)
        return self._found[key]

    def _look_up(self, provider: str | None, model: str) -> Any:
        # Not through the package's own look-up, which keeps what it did not find, and names come from outside.
        providers = self._snapshot().providers
        for name in dict.fromkeys((model, model.rpartition("/")[2])):
            for each in self._asked(provider, name):
                found = each.find_model(name, all_providers=providers)
                if found is not None:
                    return each, found
        return None

    def _asked(self, provider: str | None, model: str) -> list[Any]:
        snapshot = self._snapshot()
        if provider is None:
            matches = ((each, each.model_match) for each in snapshot.providers)
            return [each for each, match in matches if match is not None and match.is_match(model.lower())]
        try:
            return [snapshot.find_provider(None, _THEIRS.get(provider, provider), None)]
        except LookupError:
            return []


_UNKNOWN = Cost("USD", 0.0, 0.0, 0.0, 0.0, None)


def _has_own_prices(rates: Any, usage: Usage) -> bool:
    # What it has no price of its own for the package charges as text, or as what is kept for minutes: both cost less.
    sides = (
        ("input_audio_mtok", usage.input_audio_tokens),
        ("output_audio_mtok", usage.output_audio_tokens),
        ("cache_write_1h_mtok", usage.cache_write_1h_tokens),
    )
    return all(not tokens or getattr(rates, rate) is not None for rate, tokens in sides)


def _is_counted(usage: Usage) -> bool:
    return any(getattr(usage, field) for field in _COUNTS)
