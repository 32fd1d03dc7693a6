"""What the file of `OTEL_CONFIG_FILE` says of exporters and sampling, as OpenTelemetry's own reader reads it.

Nothing that stands in it is quoted but names: keys are among the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, NamedTuple

from spanrelay import config
from spanrelay._guard import pass_on
from spanrelay.plugins.files import line_of

_SAMPLES = "parentbased_always_on"

_SAID = {"ENDPOINT": ("endpoint",), "HEADERS": ("headers", "headers_list")}
"""How the names of variables of OTLP exporters end, and what says the same in a file."""


class Exporter(NamedTuple):
    """An exporter of the file.

    Attributes:
        signal: One of `config.SIGNALS`.
        name: Its name, as OpenTelemetry's reader has it.
        said: What is said of it.
        build: Builds it.
        group: The entry points in which it is looked for; empty where OpenTelemetry knows its name.
        unread: What is said of it that nothing reads.
    """

    signal: str
    name: str
    said: Any
    build: Callable[[], Any]
    group: str
    unread: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """Its name, as the file has it."""
        return self.name.replace("_development", "/development")

    @property
    def protocol(self) -> str | None:
        """One of `config.PROTOCOLS`, or None where it does not speak OTLP to a server."""
        return {"otlp_http": config.PROTOCOLS[0], "otlp_grpc": "grpc"}.get(self.name)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a file says.

    Attributes:
        path: As `OTEL_CONFIG_FILE` has it.
        fault: Why it cannot be used; empty where it can.
        cure: What to do about that.
        version: Its `file_format`.
        records: Whether it has a tracer provider and is not disabled.
        exporters: Those that push, and those that are asked for metrics.
        sampler: Its name, as `OTEL_TRACES_SAMPLER` would have it where that knows it.
        ratio: Which share of traces that samples, where it is given.
        limits: Those of spans, by their names in the file.
    """

    path: str
    fault: str = ""
    cure: str = ""
    version: str = ""
    records: bool = False
    exporters: tuple[Exporter, ...] = ()
    sampler: str = _SAMPLES
    ratio: float | None = None
    limits: Mapping[str, str] = field(default_factory=dict[str, str])


def read(environment: Mapping[str, str]) -> Declaration | None:
    """Return what the file says; None where none is named."""
    path = config.config_file(environment)
    if not path:
        return None
    try:
        from opentelemetry.configuration import ConfigurationError, load_config_file
    except ImportError:
        return Declaration(path, "opentelemetry-configuration is not installed", "pip install 'spanrelay[config-file]'")
    from spanrelay import sdk  # what names findings does not need, since it may be broken

    try:
        with sdk.one_voice():
            model = load_config_file(path)
    except (ConfigurationError, UnicodeDecodeError) as error:
        return Declaration(path, _why(error), "set it right, or take OTEL_CONFIG_FILE out")
    if (name := _unknown_processor(model)) is not None:
        fault = f"there is no processor {name!r}: expected batch or simple"
        return Declaration(path, fault, "set it right, or take OTEL_CONFIG_FILE out")
    provider = model.tracer_provider
    sampler, ratio = _sampler(None if provider is None else provider.sampler)
    records = provider is not None and not model.disabled
    exporters, limits = tuple(_exporters(model)), dict(_limits(model))
    return Declaration(path, "", "", model.file_format, records, exporters, sampler, ratio, limits)


def _why(error: Exception) -> str:
    """Say what is wrong with a file without what it contains."""
    cause: Any = error.__cause__
    if hasattr(cause, "problem_mark"):
        return f"is not YAML: {line_of(cause)}"
    if hasattr(cause, "absolute_path"):
        names_only = cause.validator in ("required", "additionalProperties")
        what = (
            cause.message if names_only else f"is not as the schema has it: {cause.validator} {cause.validator_value}"
        )
        return f"{'.'.join(map(str, cause.absolute_path)) or 'the file'}: {what}"
    if isinstance(cause, OSError):
        return f"cannot be read: {cause.strerror}"
    return f"is not JSON: line {cause.lineno}" if hasattr(cause, "lineno") else str(error)


def _exporters(model: Any) -> Iterator[Exporter]:
    # Private, and all that builds the very exporters that a program has.
    from opentelemetry.configuration import _logger_provider, _meter_provider, _tracer_provider

    traces, metrics, logs = model.tracer_provider, model.meter_provider, model.logger_provider
    spans = [each.batch or each.simple for each in traces.processors] if traces else []
    readers = metrics.readers if metrics else []
    records = [each.batch or each.simple for each in logs.processors] if logs else []
    for signal, group, holders, build in (
        ("traces", "traces", spans, _tracer_provider._create_span_exporter),
        ("metrics", "metrics", [each.periodic for each in readers], _meter_provider._create_push_metric_exporter),
        ("metrics", "pull_metric", [each.pull for each in readers], _meter_provider._create_pull_metric_exporter),
        ("logs", "logs", records, _logger_provider._create_log_record_exporter),
    ):
        for holder in filter(None, holders):
            name, said = _chosen(holder.exporter)
            group = "" if name in _names(holder.exporter) else f"opentelemetry_{group}_exporter"
            made = Exporter(signal, name, said, partial(build, holder.exporter), group)
            yield made if made.protocol is None else made._replace(unread=_unread(made, holder.exporter, build))


def _unknown_processor(model: Any) -> str | None:
    """Return the name of a processor that the SDK does not have: it knows no others than its own."""
    for provider in filter(None, (model.tracer_provider, model.logger_provider)):
        for each in provider.processors:
            if each.batch is None and each.simple is None:
                return next(iter(each.additional_properties), "")
    return None


class _Noted:
    """What is said of an exporter, which notes what of it is read."""

    def __init__(self, said: Any) -> None:
        self._said = said
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(self._said, name)


def _unread(exporter: Exporter, holder: Any, build: Callable[[Any], Any]) -> tuple[str, ...]:
    """Return what the SDK leaves unread of what is said; nothing where it cannot build the exporter at all."""
    noted = _Noted(exporter.said)
    try:
        build(replace(holder, **{exporter.name: noted})).shutdown()
    except Exception as error:
        pass_on(error)  # whoever asks says so
        return ()
    given = (each.name for each in fields(exporter.said) if getattr(exporter.said, each.name) is not None)
    return tuple(name for name in given if name not in noted.read)


def _names(said: Any) -> set[str]:
    return {each.name for each in fields(said)}


def _chosen(said: Any) -> tuple[str, Any]:
    """Return which of the kinds that a part of the file may be of it is, and what is said of that."""
    known = ((each.name, getattr(said, each.name)) for each in fields(said))
    others = said.additional_properties.items()
    return next((pair for pair in (*known, *others) if pair[1] is not None), (next(iter(dict(others)), ""), None))


def _limits(model: Any) -> Iterator[tuple[str, str]]:
    """Yield the limits of spans that are set: those of all attributes, which those of spans go before."""
    for said in (model.attribute_limits, model.tracer_provider and model.tracer_provider.limits):
        for each in fields(said) if said else ():
            if (value := getattr(said, each.name)) is not None:
                yield each.name, str(value)


def _sampler(said: Any) -> tuple[str, float | None]:
    """Return the name of a sampler as `OTEL_TRACES_SAMPLER` has it, and its ratio."""
    if said is None:
        return _SAMPLES, None
    name, given = _chosen(said)
    if name == "parent_based":
        name, ratio = ("always_on", None) if given.root is None else _sampler(given.root)
        return f"parentbased_{name}", ratio
    if name == "trace_id_ratio_based":
        return "traceidratio", 1.0 if given.ratio is None else given.ratio
    return name, None


def borrowed(exporter: Exporter, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what an exporter of the file takes from variables all the same: what the file leaves open.

    Over HTTP, headers of variables are sent beside those of the file.
    """
    found: dict[str, str] = {}
    for part, keys in _SAID.items():
        added = part == "HEADERS" and exporter.protocol != "grpc"
        if exporter.protocol is None or not (added or all(getattr(exporter.said, key) is None for key in keys)):
            continue
        names = (f"OTEL_EXPORTER_OTLP_{exporter.signal.upper()}_{part}", f"OTEL_EXPORTER_OTLP_{part}")
        name = next((name for name in names if environment.get(name, "").strip()), None)
        if name is not None:
            found[part.lower()] = name
    return found
