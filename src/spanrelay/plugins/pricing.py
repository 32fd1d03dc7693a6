"""The plugin `pricing`: what model calls cost, by price catalogues, on spans and in trajectories.

What the provider reports always wins, and a cost is in US dollars or not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from spanrelay import _json
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.catalogs import Catalog, Cost, PriceList, catalog_problems
from spanrelay.plugins.plugin import Context, Diagnostic
from spanrelay.plugins.reading import read_model
from spanrelay.records import SpanRecord
from spanrelay.tracing import recording


@dataclass(slots=True)
class Source:
    """Where a catalogue is: in `catalog` (inline), or in a JSON file at `path`.

    A path is absolute, or relative to the folder of the file that names it.
    """

    type: Literal["inline", "file"]
    catalog: Catalog | None = None
    path: str | None = None


@dataclass(slots=True)
class PricingConfig:
    """The keys of `[plugins.pricing]`: catalogues, of which the first that knows a model has its price."""

    sources: list[Source] = field(default_factory=list[Source])


class PricingPlugin:
    """Entry point `spanrelay_plugin`: prices the answers of models when their records are completed."""

    name = "pricing"
    config_model = PricingConfig

    def validate(self, config: PricingConfig) -> list[Diagnostic]:
        """Find sources that have no catalogue, and what is wrong in a catalogue."""
        found: list[Diagnostic] = []
        if not config.sources:
            remedy = 'write [[plugins.pricing.sources]] with type = "file" and a path'
            found.append(Diagnostic("has no catalogue", remedy, "sources"))
        for at, source in enumerate(config.sources):
            found += _source_problems(f"sources[{at}]", source)
        return found

    def register(self, context: Context) -> None:
        """Put the catalogues in force, before those of a file below."""
        config: PricingConfig = context.config
        prices = PriceList([load_catalog(source, context.file) for source in config.sources])
        _in_force.append(prices)
        context.on_close(lambda: _withdraw(prices))
        recording.price = price_response


def _source_problems(key: str, source: Source) -> list[Diagnostic]:
    given = {"inline": source.catalog, "file": source.path}
    wanted, other = ("catalog", "path") if source.type == "inline" else ("path", "catalog")
    if not given[source.type]:
        return [Diagnostic("is missing", f"write it, since type is {source.type!r}", f"{key}.{wanted}")]
    if getattr(source, other) is not None:
        return [Diagnostic("is not read", f"remove it, since type is {source.type!r}", f"{key}.{other}")]
    if source.catalog is not None:
        return [Diagnostic(what, todo, f"{key}.catalog.{at}") for at, what, todo in catalog_problems(source.catalog)]
    # Of a relative path only `register` knows where it begins.
    return read_catalog(Path(source.path or ""), f"{key}.path")[1] if Path(source.path or "").is_absolute() else []


def load_catalog(source: Source, file: str = "") -> Catalog:
    """Return the catalogue of a source that the configuration file `file` names.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong.
    """
    if source.catalog is not None:
        return source.catalog
    catalog, found = read_catalog(Path(file).parent / (source.path or ""), "path")
    if catalog is None:
        raise ConfigurationError("; ".join(str(diagnostic) for diagnostic in found))
    return catalog


def read_catalog(path: Path, key: str) -> tuple[Catalog | None, list[Diagnostic]]:
    """Return the catalogue in a JSON file, or None and what is wrong with it; `key` names the file."""
    try:
        table = _json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        return None, [Diagnostic(f"{str(path)!r} cannot be read: {reason}", "write a JSON file there", key)]
    if not isinstance(table, Mapping):
        return None, [Diagnostic(f"{str(path)!r} holds no object", "write version and entries", key)]
    catalog, found = read_model(Catalog, cast("Mapping[str, Any]", table))
    if catalog is not None:
        found = [Diagnostic(what, todo, at) for at, what, todo in catalog_problems(catalog)]
    found = [replace(each, message=f"{each.key} of {str(path)!r} {each.message}", key=key) for each in found]
    return (None if found else catalog), found


# --- in force ----------------------------------------------------------------------------------------------

_in_force: list[PriceList] = []
"""The price lists of this process, the first to be asked first."""


def _withdraw(prices: PriceList) -> None:
    _in_force.remove(prices)
    if not _in_force:
        recording.price = None


def price(record: SpanRecord) -> Cost | None:
    """Return what the answer in a record costs, by the catalogues in force; None where nobody knows."""
    return next((cost for prices in tuple(_in_force) if (cost := prices.price(record)) is not None), None)


def price_response(record: SpanRecord) -> None:
    """Give the response of a record its cost, unless the provider said it or it is not in US dollars."""
    response = record.response
    if response is None or response.usage is None or response.usage.cost_usd is not None:
        return
    cost = price(record)
    if cost is None or cost.total is None or cost.currency.strip().upper() != "USD":
        return
    usage = replace(response.usage, cost_usd=cost.total, input_cost_usd=cost.prompt, output_cost_usd=cost.output)
    record.response = replace(response, usage=usage)
