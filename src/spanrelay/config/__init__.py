"""Settings: one table of names, variables, types and defaults, and the only reader of the environment.

Standard `OTEL_*` variables do what OpenTelemetry says; our own are `SPANRELAY_*`. Nobody outside of this folder reads
them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from spanrelay.config.files import (
    Origin,
    PolicyFile,
    PolicyPlace,
    policy_files,
    policy_places,
)
from spanrelay.config.network import proxy_of
from spanrelay.config.opentelemetry import (
    PROTOCOLS,
    SIGNALS,
    batches,
    chosen_exporters,
    config_file,
    destination,
    disabled_instrumentations,
    exporters_of,
    id_generator,
    limits_are_set,
    named_in,
    otlp_endpoint,
    otlp_protocol,
    otlp_variables,
    refusal_of_endpoint,
    refusal_of_protocol,
    replaced,
    shown,
    trace_of_environment,
)
from spanrelay.config.spelling import misspelt
from spanrelay.config.values import (
    NAME_FIELDS,
    boolean,
    disabled,
    header_list,
    headers,
    http_url,
    name_pattern,
    number_of_bytes,
    one_of,
    optional,
    path,
    word,
)
from spanrelay.errors import ConfigurationError

__all__ = [
    "CONVENTIONS",
    "DIALECTS",
    "NAME_FIELDS",
    "PROTOCOLS",
    "SIGNALS",
    "TABLE",
    "Content",
    "Origin",
    "PolicyFile",
    "PolicyPlace",
    "Setting",
    "Settings",
    "batches",
    "chosen_exporters",
    "config_file",
    "default_of",
    "destination",
    "disabled_instrumentations",
    "exporters_of",
    "headers",
    "id_generator",
    "inherited",
    "limits_are_set",
    "load",
    "load_strictly",
    "named_in",
    "otlp_endpoint",
    "otlp_protocol",
    "otlp_variables",
    "policy_files",
    "policy_places",
    "proxy_of",
    "refusal_of_endpoint",
    "refusal_of_protocol",
    "replaced",
    "shown",
    "tell",
    "tell_that_nothing_is_recorded",
    "trace_of_environment",
    "unknown_names",
    "variable",
    "variable_of",
    "warn_of_unknown_names",
]

_log = logging.getLogger("spanrelay")

Content: TypeAlias = Literal["trajectories", "spans", "events", "spans_and_events", "off"]
"""Where message content may be recorded: in trajectories on this machine only, in spans or events too, or nowhere."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `activate()` needs to know. Every field is a row of `TABLE`, and takes what its variable takes.

    Paths are absolute from here on: a program may change its working directory.

    Raises:
        ConfigurationError: a value is not valid; the message names every one, and what it may be.
    """

    disabled: bool = False
    trajectories: Literal["on", "all", "memory", "off"] = "on"
    trajectory_directory: str = "./.spanrelay/trajectories"
    trajectory_bytes: int = 1 << 30
    trajectory_sync: bool = False
    trajectory_name: str = "{session}"
    atif_version: Literal["1.7", "1.8"] = "1.7"
    sessions_across_services: bool = False
    content: Content = "trajectories"
    dialect: str = "genai"
    semconv: Literal["1.41", "0.1", "0.1/dup"] = "1.41"
    history: Literal["whole", "new"] = "whole"
    pending_bytes: int = 64 << 20
    delivery_bytes: int = 64 << 20
    metrics: bool = True
    quiet: bool = False
    sigterm: Literal["auto", "on", "off"] = "auto"
    propagate: bool = False
    foreign_spans: Literal["stand_down", "keep"] = "stand_down"
    chains: bool = False
    checkpoints: bool = False
    atof_file: str = ""
    atof_mode: Literal["append", "overwrite"] = "append"
    atof_url: str = ""
    atof_headers: str = ""
    config_file: str = ""

    def __post_init__(self) -> None:
        problems: list[str] = []
        for row in TABLE:
            given = getattr(self, row.field)
            try:
                object.__setattr__(self, row.field, row.read(given))
            except (KeyError, TypeError, ValueError):
                problems.append(row.refusal(row.field, given))
        if problems:
            raise ConfigurationError("; ".join(problems))

    @property
    def spans_have_content(self) -> bool:
        """Whether message content may be in exported spans."""
        return self.content in ("spans", "spans_and_events")

    @property
    def events_have_content(self) -> bool:
        """Whether each model call is told in an event, with its content."""
        return self.content in ("events", "spans_and_events")


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: the field, its variable, how its value is read, and what it means.

    `read` takes the text of the variable, or what code gives for the field; it raises `KeyError`, `TypeError` or
    `ValueError`.
    """

    field: str
    variable: str
    read: Callable[[object], Any]
    choices: str
    meaning: str
    secret: bool = False

    def refusal(self, name: str, given: object) -> str:
        """Say that `given` is not valid for the field or variable `name`."""
        value = "(not shown)" if self.secret else f"{given!r}"
        return f"{name}={value} is not valid; use {self.choices}"


_CONTENT: dict[str, Content] = {
    "span_only": "spans",
    "span_and_event": "spans_and_events",
    "event_only": "events",
    "true": "spans",
    "trajectories": "trajectories",
    "no_content": "off",
    "false": "off",
    "1": "spans",
    "yes": "spans",
    "on": "spans",
    "0": "off",
    "no": "off",
    "spans": "spans",
    "events": "events",
    "spans_and_events": "spans_and_events",
    "off": "off",
}
"""The four words of OpenTelemetry's convention, two of its older form, and one of ours for neither; other words for
those two; below them, the values of the field."""

_CONTENT_CHOICES = tuple(_CONTENT)[:7]
"""What a message offers: the other words are taken, and need not be learned."""

DIALECTS = ("genai", "openinference")
"""The dialects that `semconv` can write; named here too because reading settings must not load it."""

HISTORIES = ("whole", "new")
"""How much of a conversation each span carries."""

CONVENTIONS = ("1.41", "0.1", "0.1/dup")
"""The versions of the GenAI conventions that are written: the last of the core conventions, the first of their own."""

_OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
_OPTED = {"gen_ai_latest_experimental/dup": "0.1/dup", "gen_ai_latest_experimental": "0.1"}
"""OpenTelemetry's words for the newest conventions that are known here."""

TABLE: tuple[Setting, ...] = (
    Setting("disabled", "OTEL_SDK_DISABLED", disabled, "true or false", "Record nothing. Policy stays in force."),
    Setting(
        "content",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        lambda given: _CONTENT[word(given)],
        ", ".join(_CONTENT_CHOICES),
        "Message content in exported spans too (span_only, true), in an event of each model call (event_only), in both "
        "(span_and_event), in trajectories on this machine only (trajectories), or nowhere (no_content, false).",
    ),
    Setting(
        "trajectories",
        "SPANRELAY_TRAJECTORIES",
        one_of("on", "all", "memory", "off"),
        "on, all, memory or off",
        "Write ATIF trajectories: of sampled traces, of all traces, or none. `memory`: of sampled traces, into no "
        "file; the newest 64 MB can be asked for in the program.",
    ),
    Setting(
        "trajectory_directory",
        "SPANRELAY_TRAJECTORY_DIR",
        path,
        "a folder",
        "Where trajectories are written.",
    ),
    Setting(
        "trajectory_bytes",
        "SPANRELAY_TRAJECTORY_BYTES",
        number_of_bytes,
        "a whole number of bytes above 0 or one with a unit as in 64MB",
        "The folder's size above which the oldest trajectories are removed.",
    ),
    Setting(
        "trajectory_sync",
        "SPANRELAY_TRAJECTORY_SYNC",
        boolean,
        "true or false",
        "Let a call return only when its turn is written, so that a kill never takes a finished turn; that costs each "
        "call the time of writing it, a fraction of a millisecond.",
    ),
    Setting(
        "trajectory_name",
        "SPANRELAY_TRAJECTORY_NAME",
        name_pattern,
        "a string that may contain {session}, {trace}, {agent} and {service}",
        "What trajectories' files are called, without `.json`. `{session}` is the trace where there is no session. "
        "What a file's name cannot hold is replaced, and a name that is taken gets a number.",
    ),
    Setting(
        "atif_version",
        "SPANRELAY_ATIF_VERSION",
        one_of("1.7", "1.8"),
        "1.7 or 1.8",
        "The version of ATIF that trajectories are written in; what has audio in it is always 1.8.",
    ),
    Setting(
        "sessions_across_services",
        "SPANRELAY_SESSIONS_ACROSS_SERVICES",
        boolean,
        "true or false",
        "Whether `spanrelay convert` and `spanrelay collect` take a session that two services name for one and the "
        "same. `false`: those are two, for two users it may be, unless a trace has spans of both that name it.",
    ),
    Setting(
        "dialect",
        "SPANRELAY_DIALECT",
        one_of(*DIALECTS),
        " or ".join(DIALECTS),
        "Attribute dialect of exported spans.",
    ),
    Setting(
        "semconv",
        "SPANRELAY_SEMCONV",
        one_of(*CONVENTIONS),
        "1.41, 0.1 or 0.1/dup",
        "The version of OpenTelemetry's GenAI conventions that names attributes and metrics: the last of its core "
        "conventions, the first that stands on its own, or the names of both. Unset: 0.1 where "
        "`OTEL_SEMCONV_STABILITY_OPT_IN` has `gen_ai_latest_experimental`, 0.1/dup where it has "
        "`gen_ai_latest_experimental/dup`. All are read.",
    ),
    Setting(
        "history",
        "SPANRELAY_HISTORY",
        one_of(*HISTORIES),
        " or ".join(HISTORIES),
        "Whether exported spans carry all messages of a request, or leave out those that an earlier span of the same "
        "conversation has carried: SpanRelay's OTLP exporters do.",
    ),
    Setting(
        "pending_bytes",
        "SPANRELAY_PENDING_BYTES",
        number_of_bytes,
        "a whole number of bytes above 0 or one with a unit as in 64MB",
        "Payload bytes that may wait in memory to be read.",
    ),
    Setting(
        "delivery_bytes",
        "SPANRELAY_DELIVERY_BYTES",
        number_of_bytes,
        "a whole number of bytes above 0 or one with a unit as in 64MB",
        "Span bytes kept in memory while the collector cannot be reached.",
    ),
    Setting("metrics", "SPANRELAY_METRICS", boolean, "true or false", "Record the GenAI metrics."),
    Setting(
        "quiet",
        "SPANRELAY_QUIET",
        boolean,
        "true or false",
        "Print no line about where trajectories are or that none are recorded, and none at exit about SDKs that were "
        "used and not recorded.",
    ),
    Setting(
        "sigterm",
        "SPANRELAY_SIGTERM",
        one_of("auto", "on", "off"),
        "auto, on or off",
        "Whether SIGTERM and SIGHUP, where the program does not handle them, send and write what was recorded before "
        "they end the program. `auto`: under `opentelemetry-instrument` only. `off` also lets `os._exit` not wait for "
        "that.",
    ),
    Setting(
        "propagate",
        "SPANRELAY_PROPAGATE",
        boolean,
        "true or false",
        "Send `traceparent`, and nothing else, with requests to model providers.",
    ),
    Setting(
        "foreign_spans",
        "SPANRELAY_FOREIGN_SPANS",
        one_of("stand_down", "keep"),
        "stand_down or keep",
        "What becomes of spans that other instrumentation makes of calls which SpanRelay records too. `stand_down`: "
        "they are left out, with one warning. `keep`: they are exported, and a model call still has one span: theirs, "
        "filled with what ours saw, where theirs is around the call; ours alone, where theirs is made in callbacks, as "
        "LangChain's is. Policy and trajectory are the same with both.",
    ),
    Setting(
        "chains",
        "SPANRELAY_CHAINS",
        boolean,
        "true or false",
        "Record each step of LangChain's chains: sequences, functions, prompts and parsers.",
    ),
    Setting(
        "checkpoints",
        "SPANRELAY_CHECKPOINTS",
        boolean,
        "true or false",
        "Record what LangGraph reads from its checkpointers and writes to them.",
    ),
    Setting(
        "atof_file",
        "SPANRELAY_ATOF_FILE",
        optional(path),
        "a file",
        "Where `OTEL_TRACES_EXPORTER=atof` writes events, one JSON object a line. Unset: "
        "`./.spanrelay/events/events.jsonl`, unless `SPANRELAY_ATOF_URL` is set.",
    ),
    Setting(
        "atof_mode",
        "SPANRELAY_ATOF_MODE",
        one_of("append", "overwrite"),
        "append or overwrite",
        "Whether events of earlier processes stay in the file.",
    ),
    Setting(
        "atof_url",
        "SPANRELAY_ATOF_URL",
        optional(http_url),
        "an http:// or https:// address",
        "Where `OTEL_TRACES_EXPORTER=atof` posts events; with message content only if spans have it too.",
    ),
    Setting(
        "atof_headers",
        "SPANRELAY_ATOF_HEADERS",
        header_list,
        "name=value pairs separated by commas",
        "Sent with each post, for instance `authorization=Bearer%20…`; values are URL-encoded.",
        secret=True,
    ),
    Setting(
        "config_file",
        "SPANRELAY_CONFIG",
        optional(path),
        "a file",
        "The `spanrelay.toml` of plugins and policy. Unset: `./spanrelay.toml`, else "
        "`~/.config/spanrelay/spanrelay.toml`. The program does not start when it cannot be read.",
    ),
)


def load(environment: Mapping[str, str] | None = None) -> tuple[Settings, list[str]]:
    """Read the settings of a process.

    A broken value turns its part off rather than into something nobody asked for; the returned problems name
    the variable, its value, what it may be, and what happens now.
    """
    values, broken = _read(environment)
    problems: list[str] = []
    for row, problem in broken:
        instead, told = _OFF.get(row.field, ({}, f"the default, {default_of(row.field)}, is used"))
        values.update(instead)
        problems.append(f"{problem}; {told}")
    return Settings(**values), problems


def load_strictly(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of a process.

    Raises:
        ConfigurationError: a value is not valid; the message names every one.
    """
    values, broken = _read(environment)
    if broken:
        raise ConfigurationError("; ".join(problem for _, problem in broken))
    return Settings(**values)


def _read(environment: Mapping[str, str] | None) -> tuple[dict[str, Any], list[tuple[Setting, str]]]:
    """Return the values of the fields that are set, and what is wrong with the others."""
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    broken: list[tuple[Setting, str]] = []
    for row in TABLE:
        text = environment.get(row.variable, "")
        if not text.strip():
            if row.field == "semconv":
                values |= _opted(environment)
            continue
        try:
            values[row.field] = row.read(text)
        except (KeyError, ValueError):
            broken.append((row, row.refusal(row.variable, text)))
    return values, broken


def _opted(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the conventions that OpenTelemetry's own variable asks for, if it speaks of GenAI's."""
    words = {word.strip().lower() for word in environment.get(_OPT_IN, "").split(",")}
    return next(({"semconv": version} for word, version in _OPTED.items() if word in words), {})


_told: set[str] = set()


def tell(problem: str, level: int = logging.ERROR) -> None:
    """Log what is wrong with a variable, once in a process: more than one part may come upon it."""
    if problem not in _told:
        _told.add(problem)
        _log.log(level, "%s", problem)


def unknown_names(environment: Mapping[str, str] | None = None) -> list[str]:
    """Say of each `SPANRELAY_*` variable that nothing reads which settings are like it, and of misspelt `OTEL_*`."""
    return misspelt([row.variable for row in TABLE], os.environ if environment is None else environment)


def warn_of_unknown_names() -> None:
    """Log `unknown_names`, a line for each."""
    for told in unknown_names():
        tell(told, logging.WARNING)


def tell_that_nothing_is_recorded(settings: Settings) -> None:
    """Log once, where the environment has switched recording off, that it has, and that this is not said of policy."""
    if settings.disabled and not settings.quiet:
        tell(
            f"nothing is recorded, since {variable_of('disabled')} is true; policy holds all the same", logging.WARNING
        )


def variable_of(field: str) -> str:
    """Return the environment variable of a field."""
    return next(row.variable for row in TABLE if row.field == field)


def default_of(field: str) -> str:
    """Return the default of a field as a user would write it; "" where only leaving it out says so."""
    default: object = Settings.__dataclass_fields__[field].default
    if field == "content":
        return next(word for word, meant in _CONTENT.items() if meant == default)
    return str(default).lower() if isinstance(default, bool) else str(default)


_OFF: dict[str, tuple[dict[str, Any], str]] = {
    "content": ({"content": "off"}, "message content is recorded nowhere, so no trajectories are written"),
    "trajectories": ({"trajectories": "off"}, "no trajectories are written"),
    "atof_mode": ({}, "no events are written"),
    "atof_url": ({}, "no events are written"),
    "atof_headers": ({}, "no events are written"),
}
"""What a broken setting turns off, and in words. The others use their defaults, which give nothing away."""


def inherited() -> dict[str, str]:
    """Return the environment that a program which this process starts would have, to be changed at will."""
    return dict(os.environ)


def variable(name: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Return what `${name}` stands for in a policy file; None where it is not set."""
    environment = os.environ if environment is None else environment
    return environment.get(name)
