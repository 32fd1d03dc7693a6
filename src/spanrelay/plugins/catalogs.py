"""Price catalogues: what a token of a model costs, and what the tokens of an answer cost together.

Never guesses: where a price that is needed is not known there is no total.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from spanrelay.records import SpanRecord, Usage


@dataclass(slots=True)
class Rates:
    """Prices of a million tokens, in the currency of the entry. None means that the price is not known."""

    input_per_million: float
    output_per_million: float
    cache_read_per_million: float | None = None
    cache_write_per_million: float | None = None
    input_audio_per_million: float | None = None
    output_audio_per_million: float | None = None
    cache_write_1h_per_million: float | None = None


@dataclass(slots=True)
class Tier:
    """The rates for requests of `min_prompt_tokens` to `max_prompt_tokens` tokens, both included."""

    rates: Rates
    min_prompt_tokens: int | None = None
    max_prompt_tokens: int | None = None

    def takes(self, tokens: int) -> bool:
        """Whether a prompt of so many tokens, cached ones included, is of this tier."""
        return (self.min_prompt_tokens or 0) <= tokens and (
            self.max_prompt_tokens is None or tokens <= self.max_prompt_tokens
        )


@dataclass(slots=True)
class RateSchedule:
    """Rates that depend on the length of the prompt; the first tier that takes it is for the whole request."""

    tiers: list[Tier]
    type: Literal["prompt_token_threshold"] = "prompt_token_threshold"
    applies_to: Literal["full_request"] = "full_request"


@dataclass(slots=True)
class PromptCache:
    """How the provider counts cached tokens on the wire.

    A record's `input_tokens` always include them, whatever the provider does, so this changes no figure.
    """

    read_accounting: Literal["included_in_prompt_tokens", "separate"] = "included_in_prompt_tokens"


@dataclass(slots=True)
class ModelPricing:
    """The prices of one model, under its id and its aliases; `pricing_as_of` and `pricing_source` are for readers."""

    provider: str
    model_id: str
    rates: Rates | None = None
    rate_schedule: RateSchedule | None = None
    aliases: list[str] = field(default_factory=list[str])
    currency: str = "USD"
    unit: Literal["per_token"] = "per_token"
    prompt_cache: PromptCache = field(default_factory=PromptCache)
    pricing_as_of: str = ""
    pricing_source: str = ""

    def rates_for(self, tokens: int) -> Rates | None:
        """Return the rates for a prompt of so many tokens."""
        if self.rate_schedule is None:
            return self.rates
        return next((tier.rates for tier in self.rate_schedule.tiers if tier.takes(tokens)), None)


@dataclass(slots=True)
class Catalog:
    """The content of a catalogue, inline or of a JSON file."""

    entries: list[ModelPricing]
    version: Literal[1] = 1


def catalog_problems(catalog: Catalog) -> Iterator[tuple[str, str, str]]:
    """Yield the key, what is wrong and what to do, for whatever is wrong in a catalogue."""
    seen: dict[tuple[str, str], int] = {}
    for at, entry in enumerate(catalog.entries):
        yield from _entry_problems(f"entries[{at}]", entry)
        for model in _names(entry):
            first = seen.setdefault((_normal(entry.provider), model), at)
            if first != at:
                yield f"entries[{at}].model_id", f"{model!r} has a price in entries[{first}] already", "remove one"


def _entry_problems(key: str, entry: ModelPricing) -> Iterator[tuple[str, str, str]]:
    for name in ("provider", "model_id", "currency"):
        if not getattr(entry, name).strip():
            yield f"{key}.{name}", "is empty", "write it, or remove the entry"
    if entry.rates is None and entry.rate_schedule is None:
        yield key, "has no price", "write rates or a rate_schedule"
    if entry.rates is not None:
        yield from _rate_problems(f"{key}.rates", entry.rates)
    for at, tier in enumerate(entry.rate_schedule.tiers if entry.rate_schedule is not None else ()):
        place = f"{key}.rate_schedule.tiers[{at}]"
        yield from _rate_problems(f"{place}.rates", tier.rates)
        if tier.max_prompt_tokens is not None and tier.max_prompt_tokens < (tier.min_prompt_tokens or 0):
            yield (
                f"{place}.max_prompt_tokens",
                "is less than min_prompt_tokens",
                "write the length of the longest prompt in the tier",
            )
    if entry.rate_schedule is not None and not entry.rate_schedule.tiers:
        yield f"{key}.rate_schedule.tiers", "is empty", "write a tier, or rates instead"


def _rate_problems(key: str, rates: Rates) -> Iterator[tuple[str, str, str]]:
    for name in Rates.__dataclass_fields__:
        rate = getattr(rates, name)
        if rate is not None and not (math.isfinite(rate) and rate >= 0):
            yield f"{key}.{name}", "is not a price", "write a number of at least 0"


def readable_part(table: Mapping[str, Any]) -> Catalog:
    """Return what can be read of a catalogue that has faults of form, so that its values are judged beside them.

    What cannot be read is replaced by something that is well.
    """
    entries: Any = table.get("entries")
    return Catalog([_readable_entry(at, entry) for at, entry in enumerate(_list_of(entries))])


def _readable_entry(at: int, entry: Any) -> ModelPricing:
    entry = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {"rates": None}
    texts = {name: entry[name] for name in ("provider", "model_id", "currency") if isinstance(entry.get(name), str)}
    aliases = [alias for alias in _list_of(entry.get("aliases")) if isinstance(alias, str)]
    rates = _readable_rates(entry["rates"]) if "rates" in entry else None
    tiers = [_readable_tier(tier) for tier in _list_of(_member(entry.get("rate_schedule"), "tiers"))]
    schedule = RateSchedule(tiers or [_readable_tier(None)]) if "rate_schedule" in entry else None
    named: dict[str, Any] = {"provider": "?", "model_id": f"?{at}", **texts}
    return ModelPricing(**named, rates=rates, rate_schedule=schedule, aliases=aliases)


def _readable_tier(tier: Any) -> Tier:
    low, high = (_member(tier, name) for name in ("min_prompt_tokens", "max_prompt_tokens"))
    known = type(low) is int and type(high) is int
    return Tier(_readable_rates(_member(tier, "rates")), low if known else None, high if known else None)


def _readable_rates(rates: Any) -> Rates:
    told = {name: _member(rates, name) for name in Rates.__dataclass_fields__}
    read: dict[str, Any] = {name: rate if type(rate) in (int, float) else None for name, rate in told.items()}
    return Rates(**read)


def _member(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


def _list_of(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Cost:
    """What one answer costs, in `currency`. `total` is None where a price that is needed is not known."""

    currency: str
    input: float
    output: float
    cache_read: float
    cache_write: float
    total: float | None

    @property
    def prompt(self) -> float | None:
        """All of what was sent, cached or not."""
        return None if self.total is None else _rounded(self.input + self.cache_read + self.cache_write)


def cost_of(usage: Usage, entry: ModelPricing) -> Cost | None:
    """Return what `usage` costs; None where no token is reported, or no tier takes the prompt."""
    prompt, completion = usage.input_tokens or 0, usage.output_tokens or 0
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    hour = min(usage.cache_write_1h_tokens or 0, written)
    heard, spoken = usage.input_audio_tokens or 0, usage.output_audio_tokens or 0
    rates = entry.rates_for(prompt)
    if rates is None or not (prompt or completion or read or written):
        return None
    # Nobody tells how much of the audio was cached, and cached audio has a price of its own.
    known = not (heard and (read or written)) and all(
        rate is not None or not tokens
        for tokens, rate in (
            (read, rates.cache_read_per_million),
            (written - hour, rates.cache_write_per_million),
            (hour, rates.cache_write_1h_per_million),
            (heard, rates.input_audio_per_million),
            (spoken, rates.output_audio_per_million),
        )
    )
    parts = (
        _amount(
            (max(prompt - read - written - heard, 0), rates.input_per_million), (heard, rates.input_audio_per_million)
        ),
        _amount((max(completion - spoken, 0), rates.output_per_million), (spoken, rates.output_audio_per_million)),
        _amount((read, rates.cache_read_per_million)),
        _amount((written - hour, rates.cache_write_per_million), (hour, rates.cache_write_1h_per_million)),
    )
    return Cost(entry.currency, *parts, _rounded(sum(parts)) if known else None)


def _amount(*parts: tuple[int, float | None]) -> float:
    return _rounded(sum(tokens * (per_million or 0.0) for tokens, per_million in parts) / 1_000_000)


def _rounded(amount: float) -> float:
    return round(amount, 12)


class PriceList:
    """Catalogues in order: the first one that knows a model has its price."""

    __slots__ = ("_catalogs", "_found")

    def __init__(self, catalogs: Sequence[Catalog]) -> None:
        self._catalogs = [_index(catalog) for catalog in catalogs]
        self._found: dict[tuple[str | None, str], ModelPricing | None] = {}

    def find(self, provider: str | None, model: str) -> ModelPricing | None:
        """Return the entry for a model: of that provider, else of whichever has a model of that name."""
        key = (provider, model)
        if key not in self._found:
            if len(self._found) > 1000:  # names come from outside
                self._found.clear()
            self._found[key] = self._look_up(provider, model)
        return self._found[key]

    def _look_up(self, provider: str | None, model: str) -> ModelPricing | None:
        keys = list(_keys(_normal(provider or ""), _normal(model)))
        return next((index[key] for index in self._catalogs for key in keys if key in index), None)

    def price(self, record: SpanRecord) -> Cost | None:
        """Return what the response of a record costs; None where the price or the usage is not known."""
        response = record.response
        if response is None or response.usage is None:
            return None
        asked = record.request.model if record.request is not None else None
        entries = (self.find(record.provider, model) for model in (response.model, asked) if model)
        entry = next((entry for entry in entries if entry is not None), None)
        return None if entry is None else cost_of(response.usage, entry)


_Index = dict[tuple[str, str], ModelPricing]


def _index(catalog: Catalog) -> _Index:
    index: _Index = {}
    for entry in catalog.entries:
        for model in _names(entry):
            index[_normal(entry.provider), model] = entry
            index.setdefault(("", model), entry)
    return index


def _names(entry: ModelPricing) -> list[str]:
    return list(dict.fromkeys(_normal(model) for model in (entry.model_id, *entry.aliases) if model.strip()))


def _normal(name: str) -> str:
    return name.strip().strip("/").casefold()


def _keys(provider: str, model: str) -> Iterator[tuple[str, str]]:
    """Yield where to look for a model, the closest first; routers write `provider/model`, some with a route before."""
    parts = [part for part in model.split("/") if part]
    if provider:
        yield provider, model
        yield provider, parts[-1] if parts else model
    for at in range(len(parts)):
        if at:
            yield "/".join(parts[:at]), "/".join(parts[at:])
        yield "", "/".join(parts[at:])
