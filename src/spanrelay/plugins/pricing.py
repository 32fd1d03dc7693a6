"""The plugin `pricing`: what model calls cost, by catalogues and published prices, on spans and in trajectories.

What the provider reports always wins, and a cost is in US dollars or not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from spanrelay import _json
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.catalogs import Catalog, Cost, PriceList, catalog_problems, readable_part
from spanrelay.plugins.plugin import Context, Diagnostic
from spanrelay.plugins.published_prices import PACKAGE, PublishedPrices, is_installed
from spanrelay.plugins.reading import read_model
from spanrelay.records import PromptCache, SpanRecord, Usage
from spanrelay.tracing import recording

Prices: TypeAlias = PriceList | PublishedPrices
"""What says the cost of a record's answer: `price(record)`."""


@dataclass(slots=True)
class Source:
    """Where prices are: in `catalog` (inline), in a JSON file at `path`, or in the package genai-prices.

    A path is absolute, or relative to the folder of the file that names it.
    """

    type: Literal["inline", "file", "genai-prices"]
    catalog: Catalog | None = None
    path: Path | None = None


@dataclass(slots=True)
class PricingConfig:
    """The keys of `[plugins.pricing]`: sources, of which the first that knows a model has its price.

    Without any there are the prices that providers publish.
    """

    sources: list[Source] = field(default_factory=lambda: [Source("genai-prices")])


class PricingPlugin:
    """Adds the cost in US dollars to what is recorded of model calls, from price lists."""

    name = "pricing"
    config_model = PricingConfig

    def validate(self, config: PricingConfig) -> list[Diagnostic]:
        """Find sources that have no prices, and what is wrong in a catalogue."""
        found: list[Diagnostic] = []
        if not config.sources:
            found.append(Diagnostic("is an empty list", "remove the key for the prices of genai-prices", "sources"))
        for at, source in enumerate(config.sources):
            found += _source_problems(f"sources[{at}]", source)
        return found

    def register(self, context: Context) -> None:
        """Put the catalogues in force, before those of a file below."""
        config: PricingConfig = context.config
        prices = [*_loaded(config.sources)]
        _in_force.append(prices)
        context.on_close(lambda: _withdraw(prices))
        recording.price = price_response


def _source_problems(key: str, source: Source) -> Iterator[Diagnostic]:
    given = {"catalog": source.catalog, "path": source.path}
    wanted = {"inline": "catalog", "file": "path"}.get(source.type)
    for name, value in given.items():
        if name == wanted and value is None:
            yield Diagnostic("is missing", f"write it, since type is {source.type!r}", f"{key}.{name}")
        if name != wanted and value is not None:
            yield Diagnostic("is not read", f"remove it, since type is {source.type!r}", f"{key}.{name}")
    if source.type == "genai-prices" and not is_installed():
        what = f"needs the package {PACKAGE!r}, which takes Python 3.11 or newer"
        yield Diagnostic(what, "pip install 'spanrelay[prices]', or name a catalogue of your own", key)
    if source.type == "inline" and source.catalog is not None:
        for at, what, todo in catalog_problems(source.catalog):
            yield Diagnostic(what, todo, f"{key}.catalog.{at}")
    if source.type == "file" and source.path is not None:
        yield from read_catalog(source.path, f"{key}.path")[1]


def _loaded(sources: list[Source]) -> Iterator[Prices]:
    for published, group in groupby(sources, lambda source: source.type == "genai-prices"):
        yield PublishedPrices() if published else PriceList([load_catalog(source) for source in group])


def load_catalog(source: Source) -> Catalog:
    """Return the catalogue of a source.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    if source.catalog is not None:
        return source.catalog
    catalog, found = read_catalog(source.path or Path(), "path")
    if catalog is None:
        raise ConfigurationError("; ".join(str(diagnostic) for diagnostic in found))
    return catalog


def read_catalog(path: Path, key: str) -> tuple[Catalog | None, list[Diagnostic]]:
    """Return the catalogue in a JSON file, or None and all that is wrong with it; `key` names the file."""
    try:
        table: Any = _json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        return None, [Diagnostic(f"{str(path)!r} cannot be read: {reason}", "name a JSON file", key)]
    if not isinstance(table, Mapping):
        return None, [Diagnostic(f"{str(path)!r} is not a JSON object", "write version and entries", key)]
    table = cast("Mapping[str, Any]", table)
    catalog, found = read_model(Catalog, table)
    judged = catalog if catalog is not None else readable_part(table)
    found += [Diagnostic(what, todo, at) for at, what, todo in catalog_problems(judged)]
    found = [replace(each, message=f"{each.key} of {str(path)!r} {each.message}", key=key) for each in found]
    return (None if found else catalog), found


# --- in force ----------------------------------------------------------------------------------------------

_in_force: list[list[Prices]] = []
"""The prices of this process, a list for each file, the first to be asked first."""


def _withdraw(prices: list[Prices]) -> None:
    _in_force.remove(prices)
    if not _in_force:
        recording.price = None


def price(record: SpanRecord) -> Cost | None:
    """Return what the answer in a record costs, by the prices in force; None where nobody knows."""
    asked = (prices for each in tuple(_in_force) for prices in each)
    return next((cost for prices in asked if (cost := prices.price(record)) is not None), None)


def price_response(record: SpanRecord) -> None:
    """Give the response of a record its cost, unless the provider said it or it is not in US dollars."""
    response = record.response
    if response is None or response.usage is None:
        return
    if record.prompt_cache is not None:
        _price_saving(record, record.prompt_cache, response.usage.input_tokens)
    if response.usage.cost_usd is not None:
        return
    cost = price(record)
    if cost is None or cost.total is None or cost.currency.strip().upper() != "USD":
        return
    usage = replace(response.usage, cost_usd=cost.total, input_cost_usd=cost.prompt, output_cost_usd=cost.output)
    record.response = replace(response, usage=usage)


def _price_saving(record: SpanRecord, cache: PromptCache, tokens: int | None) -> None:
    """Give what marks of a prompt cache saved its price: that of plain input, of so many tokens as were sent."""
    if not tokens or cache.saved_tokens is None or record.response is None:
        return
    plain = replace(record, response=replace(record.response, usage=Usage(tokens, 0)))
    cost = price(plain)
    if cost is not None and cost.prompt is not None and cost.currency.strip().upper() == "USD":
        record.prompt_cache = replace(cache, saved_usd=round(cost.prompt / tokens * cache.saved_tokens, 9))
