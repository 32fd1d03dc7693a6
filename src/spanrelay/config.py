"""Settings: one table of names, variables, types and defaults, and the only reader of the environment.

Standard `OTEL_*` variables do what OpenTelemetry says; our own are `SPANRELAY_*`. No other module reads them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from string import Formatter
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from spanrelay.errors import ConfigurationError

_log = logging.getLogger("spanrelay")

Content: TypeAlias = Literal["trajectories", "spans", "events", "spans_and_events", "off"]
"""Where message content may be recorded: in trajectories on this machine only, in spans or events too, or nowhere."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `activate()` needs to know. Every field has a row in `TABLE` and takes what its variable takes.

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
    content: Content = "trajectories"
    dialect: str = "genai"
    semconv: Literal["1.41", "0.1", "0.1/dup"] = "1.41"
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


def _word(given: object) -> str:
    return str(given).strip().lower()


def _boolean(given: object) -> bool:
    value = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }
    return value[_word(given)]


def _disabled(given: object) -> bool:
    value = _boolean(given)
    if value and _word(given) != "true":
        raise ValueError(given)  # the SDK takes no other word for it, and would record
    return value


def _one_of(*choices: str) -> Callable[[object], str]:
    def read(given: object) -> str:
        value = _word(given)
        if value not in choices and {"on", "off"} <= set(choices):
            value = "on" if _boolean(given) else "off"
        if value not in choices:
            raise ValueError(value)
        return value

    return read


_UNITS = {"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30}
"""How far a number is shifted for its unit, each 1024 of the one before."""


def _bytes(given: object) -> int:
    text = _word(given)
    digits = text.rstrip("bgikm ")
    value = int(digits) << _UNITS[text[len(digits) :].strip()]
    if value <= 0:
        raise ValueError(given)
    return value


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError(given)
    return given.strip()


def _path(given: object) -> str:
    path = os.fsdecode(cast("str | os.PathLike[str]", given))
    if not path.strip():
        raise ValueError(given)
    return _absolute(os.path.expanduser(path))


def _name_pattern(given: object) -> str:
    pattern = _text(given)
    fields = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(pattern) if name is not None]
    if not pattern or any(spec or conversion or name not in NAME_FIELDS for name, spec, conversion in fields):
        raise ValueError(given)
    return pattern


NAME_FIELDS = ("session", "trace", "agent", "service")
"""What may stand in braces in the name of a trajectory's file."""


def _optional(read: Callable[[object], str]) -> Callable[[object], str]:
    return lambda given: "" if given == "" else read(given)


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:
        return path  # the working directory is gone; using the path will say so


def _http_url(given: object) -> str:
    text = _text(given)
    if not text.startswith(("http://", "https://")):
        raise ValueError(text)
    return text


def _header_list(given: object) -> str:
    headers(_text(given))
    return _text(given)


def headers(text: str) -> dict[str, str]:
    """Return the headers in `name=value,name=value`, values URL-encoded, as OpenTelemetry writes them.

    Raises:
        ValueError: a pair has no name or no `=`.
    """
    found: dict[str, str] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, equals, value = pair.partition("=")
        if not (name.strip() and equals):
            raise ValueError(pair)
        found[name.strip()] = unquote(value.strip())
    return found


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

CONVENTIONS = ("1.41", "0.1", "0.1/dup")
"""The versions of the GenAI conventions that are written: the last of the core conventions, the first of their own."""

_OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
_OPTED = {"gen_ai_latest_experimental/dup": "0.1/dup", "gen_ai_latest_experimental": "0.1"}
"""OpenTelemetry's words for the newest conventions that are known here."""

TABLE: tuple[Setting, ...] = (
    Setting("disabled", "OTEL_SDK_DISABLED", _disabled, "true or false", "Record nothing. Policy stays in force."),
    Setting(
        "content",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        lambda given: _CONTENT[_word(given)],
        ", ".join(_CONTENT_CHOICES),
        "Message content in exported spans too (span_only, true), in an event of each model call (event_only), in both "
        "(span_and_event), in trajectories on this machine only (trajectories), or nowhere (no_content, false).",
    ),
    Setting(
        "trajectories",
        "SPANRELAY_TRAJECTORIES",
        _one_of("on", "all", "memory", "off"),
        "on, all, memory or off",
        "Write ATIF trajectories: of sampled traces, of all traces, or none. `memory`: of sampled traces, into no "
        "file; the newest 64 MB can be asked for in the program.",
    ),
    Setting(
        "trajectory_directory",
        "SPANRELAY_TRAJECTORY_DIR",
        _path,
        "a folder",
        "Where trajectories are written.",
    ),
    Setting(
        "trajectory_bytes",
        "SPANRELAY_TRAJECTORY_BYTES",
        _bytes,
        "a whole number of bytes above 0 or one with a unit as in 64MB",
        "The folder's size above which the oldest trajectories are removed.",
    ),
    Setting(
        "trajectory_sync",
        "SPANRELAY_TRAJECTORY_SYNC",
        _boolean,
        "true or false",
        "Let a call return only when its turn is written, so that a kill never takes a finished turn; that costs each "
        "call the time of writing it, a fraction of a millisecond.",
    ),
    Setting(
        "trajectory_name",
        "SPANRELAY_TRAJECTORY_NAME",
        _name_pattern,
        "a string that may contain {session}, {trace}, {agent} and {service}",
        "What trajectories' files are called, without `.json`. `{session}` is the trace where there is no session. "
        "What a file's name cannot hold is replaced, and a name that is taken gets a number.",
    ),
    Setting(
        "atif_version",
        "SPANRELAY_ATIF_VERSION",
        _one_of("1.7", "1.8"),
        "1.7 or 1.8",
        "The version of ATIF that trajectories are written in; what has audio in it is always 1.8.",
    ),
    Setting(
        "dialect",
        "SPANRELAY_DIALECT",
        _one_of(*DIALECTS),
        " or ".join(DIALECTS),
        "Attribute dialect of exported spans.",
    ),
    Setting(
        "semconv",
        "SPANRELAY_SEMCONV",
        _one_of(*CONVENTIONS),
        "1.41, 0.1 or 0.1/dup",
        "The version of OpenTelemetry's GenAI conventions that names attributes and metrics: the last of its core "
        "conventions, the first that stands on its own, or the names of both. Unset: 0.1 where "
        "`OTEL_SEMCONV_STABILITY_OPT_IN` has `gen_ai_latest_experimental`, 0.1/dup where it has "
        "`gen_ai_latest_experimental/dup`. All are read.",
    ),
    Setting(
        "pending_bytes",
        "SPANRELAY_PENDING_BYTES",
        _bytes,
        "a whole number of bytes above 0 or one with a unit as in 64MB",
        "Payload bytes that may wait in memory to be read.",
    ),
    Setting(
        "delivery_bytes",
        "SPANRELAY_DELIVERY_BYTES",
        _bytes,
        "a whole number of bytes above 0 or one with a unit as in 64MB",
        "Span bytes kept in memory while the collector cannot be reached.",
    ),
    Setting("metrics", "SPANRELAY_METRICS", _boolean, "true or false", "Record the GenAI metrics."),
    Setting(
        "quiet",
        "SPANRELAY_QUIET",
        _boolean,
        "true or false",
        "Print no line about where trajectories are or that none are recorded, and none at exit about SDKs that were "
        "used and not recorded.",
    ),
    Setting(
        "sigterm",
        "SPANRELAY_SIGTERM",
        _one_of("auto", "on", "off"),
        "auto, on or off",
        "Whether SIGTERM and SIGHUP, where the program does not handle them, send and write what was recorded before "
        "they end the program. `auto`: under `opentelemetry-instrument` only. `off` also lets `os._exit` not wait for "
        "that.",
    ),
    Setting(
        "propagate",
        "SPANRELAY_PROPAGATE",
        _boolean,
        "true or false",
        "Send `traceparent`, and nothing else, with requests to model providers.",
    ),
    Setting(
        "foreign_spans",
        "SPANRELAY_FOREIGN_SPANS",
        _one_of("stand_down", "keep"),
        "stand_down or keep",
        "What becomes of spans that other instrumentation makes of calls which SpanRelay records too. `stand_down`: "
        "they are left out, with one warning. `keep`: they are exported, and a model call still has one span: theirs, "
        "filled with what ours saw, where theirs is around the call; ours alone, where theirs is made in callbacks, as "
        "LangChain's is. Policy and trajectory are the same with both.",
    ),
    Setting(
        "chains",
        "SPANRELAY_CHAINS",
        _boolean,
        "true or false",
        "Record each step of LangChain's chains: sequences, functions, prompts and parsers.",
    ),
    Setting(
        "checkpoints",
        "SPANRELAY_CHECKPOINTS",
        _boolean,
        "true or false",
        "Record what LangGraph reads from its checkpointers and writes to them.",
    ),
    Setting(
        "atof_file",
        "SPANRELAY_ATOF_FILE",
        _optional(_path),
        "a file",
        "Where `OTEL_TRACES_EXPORTER=atof` writes events, one JSON object a line. Unset: "
        "`./.spanrelay/events/events.jsonl`, unless `SPANRELAY_ATOF_URL` is set.",
    ),
    Setting(
        "atof_mode",
        "SPANRELAY_ATOF_MODE",
        _one_of("append", "overwrite"),
        "append or overwrite",
        "Whether events of earlier processes stay in the file.",
    ),
    Setting(
        "atof_url",
        "SPANRELAY_ATOF_URL",
        _optional(_http_url),
        "an http:// or https:// address",
        "Where `OTEL_TRACES_EXPORTER=atof` posts events; with message content only if spans have it too.",
    ),
    Setting(
        "atof_headers",
        "SPANRELAY_ATOF_HEADERS",
        _header_list,
        "name=value pairs separated by commas",
        "Sent with each post, for instance `authorization=Bearer%20…`; values are URL-encoded.",
        secret=True,
    ),
    Setting(
        "config_file",
        "SPANRELAY_CONFIG",
        _optional(_path),
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


_READ_ELSEWHERE = frozenset(
    f"SPANRELAY_{name}"
    for name in (
        *("BACKEND_ENDPOINT", "HEALTH_ENDPOINT", "OTLP_GRPC_ENDPOINT", "OTLP_HTTP_ENDPOINT", "OUTPUT_DIR", "QUEUE_DIR"),
        *("TELEMETRY_PORT", "TRACES_EXPORTERS", "METRICS_EXPORTERS", "LOGS_EXPORTERS"),
    )
)
"""Names that are the collector's."""

_OF_TESTS = ("SPANRELAY_TEST_", "SPANRELAY_E2E_")
"""How names begin that our own tests read."""


def unknown_names(environment: Mapping[str, str] | None = None) -> list[str]:
    """Say of each `SPANRELAY_*` variable that nothing reads which settings are like it, and of misspelt `OTEL_*`."""
    environment = os.environ if environment is None else environment
    return [*_unknown_settings(environment), *_misspelt(environment)]


def _unknown_settings(environment: Mapping[str, str]) -> list[str]:
    known = [row.variable for row in TABLE if row.variable.startswith("SPANRELAY_")]
    ours = {name for name in environment if name.startswith("SPANRELAY_") and not name.startswith(_OF_TESTS)}
    unknown = sorted(ours.difference(known, _READ_ELSEWHERE))
    if not unknown:
        return []
    from difflib import get_close_matches  # few have mistyped anything

    nearest = [get_close_matches(name, known, 2, 0.9) or get_close_matches(name, known, 1, 0.75) for name in unknown]
    told = zip(unknown, map(" or ".join, nearest), strict=True)
    return [
        f"{name} is not a setting; " + (f"did you mean {meant}?" if meant else "remove it; docs/settings.md lists them")
        for name, meant in told
    ]


_ALIKE = 0.935
"""How like a known name another is that is misspelt: a letter or two of many. Other languages' names are less so."""


def _misspelt(environment: Mapping[str, str]) -> Iterator[str]:
    """Say of each `OTEL_*` variable which one of OpenTelemetry's it is nearly; vendors have others of their own."""
    known = _names_of_opentelemetry()
    unknown = sorted(name for name in environment if name.startswith("OTEL_") and name not in known)
    if not unknown:
        return
    from difflib import get_close_matches  # few have mistyped anything

    for name in unknown:
        meant = next(iter(get_close_matches(name, known, 1, _ALIKE)), None)
        if meant is not None and not name.startswith(f"{meant}_"):
            yield f"{name} is not a variable of OpenTelemetry's; did you mean {meant}?"


def _names_of_opentelemetry() -> set[str]:
    from opentelemetry import environment_variables as of_api
    from opentelemetry.instrumentation import environment_variables as of_launcher
    from opentelemetry.sdk import environment_variables as of_sdk

    constants = [value for module in (of_api, of_launcher, of_sdk) for value in vars(module).values()]
    known = {value for value in constants if isinstance(value, str) and value.startswith("OTEL_")}
    return known.union(row.variable for row in TABLE)


_told: set[str] = set()


def tell(problem: str, level: int = logging.ERROR) -> None:
    """Log what is wrong with a variable, once in a process: more than one part may come upon it."""
    if problem not in _told:
        _told.add(problem)
        _log.log(level, "%s", problem)


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


Origin: TypeAlias = Literal["system", "chosen", "directory", "user", "declarative"]
"""Who put a policy file there: the machine's owner, whoever set `SPANRELAY_CONFIG`, nobody knows, or the user.

A declarative one is the file of `OTEL_CONFIG_FILE`; its section `distribution: spanrelay:` says what the others say.
"""

SYSTEM_FILE = "/etc/spanrelay/spanrelay.toml"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file that says which plugins are in force."""

    path: str
    origin: Origin


def policy_files(chosen: str = "", environment: Mapping[str, str] | None = None) -> list[PolicyFile]:
    """Return the files that say which plugins are in force, the highest first.

    The system's; the first that there is of `chosen`, `./spanrelay.toml` and the user's; and that of
    `OTEL_CONFIG_FILE` where it speaks of us. What may be there but cannot be looked at is listed too, so that reading
    it fails; only a user's folder may be out of reach.
    """
    return [place.file for place in policy_places(chosen, environment) if not place.why_not]


@dataclass(frozen=True, slots=True)
class PolicyPlace:
    """Where a policy file may be: who names it, the file, and why it is not read, or "" where it is."""

    name: str
    file: PolicyFile
    why_not: str


def policy_places(chosen: str = "", environment: Mapping[str, str] | None = None) -> list[PolicyPlace]:
    """Return every place that `policy_files` looks at, in its order."""
    environment = os.environ if environment is None else environment
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    # Settings that are made in code may name none, and whoever starts the program named it for all that it does.
    named = environment.get("SPANRELAY_CONFIG", "")
    chosen = _absolute(chosen) if chosen else _path(named) if named.strip() else ""
    nearest = [
        PolicyPlace("SPANRELAY_CONFIG", PolicyFile(chosen, "chosen"), "" if chosen else _UNSET),
        _found("the working directory", PolicyFile(_absolute("spanrelay.toml"), "directory"), os.path.lexists),
        _found("the user", PolicyFile(f"{home}/spanrelay/spanrelay.toml", "user"), os.path.lexists),
    ]
    declarative = environment.get("OTEL_CONFIG_FILE", "")
    file = PolicyFile(declarative and _absolute(declarative), "declarative")
    silent = "" if declarative and _speaks_of_us(declarative) else "does not mention spanrelay"
    return [
        _found("the machine", PolicyFile(SYSTEM_FILE, "system"), _may_exist),
        *_first_only(nearest),
        PolicyPlace("OTEL_CONFIG_FILE", file, silent if declarative else _UNSET),
    ]


_UNSET = "not set"


def _found(name: str, file: PolicyFile, exists: Callable[[str], bool]) -> PolicyPlace:
    return PolicyPlace(name, file, "" if exists(file.path) else "not there")


def _first_only(places: list[PolicyPlace]) -> Iterator[PolicyPlace]:
    """Yield places of which only the first that there is counts."""
    first: PolicyPlace | None = None
    for place in places:
        passed = first is not None and not place.why_not
        yield replace(place, why_not=f"not read, since {first.name} has one") if first and passed else place
        first = first or (None if place.why_not else place)


def _speaks_of_us(path: str) -> bool:
    """Whether a declarative configuration may have a section of ours; one that cannot be read is the SDK's affair."""
    try:
        with open(path, "rb") as file:
            return b"spanrelay" in file.read()
    except OSError:
        return False


def _may_exist(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def variable(name: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Return what `${name}` stands for in a policy file; None where it is not set."""
    environment = os.environ if environment is None else environment
    return environment.get(name)


def disabled_instrumentations(environment: Mapping[str, str] | None = None) -> set[str]:
    """Return the names of `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`; `*` is all."""
    return {name.strip() for name in (variable("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", environment) or "").split(",")}


def limits_are_set(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the user chose the number of attributes of a span."""
    environment = os.environ if environment is None else environment
    return any(environment.get(name) for name in ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"))


def trace_of_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return `traceparent` and `tracestate` where whoever started this process set `TRACEPARENT`."""
    environment = os.environ if environment is None else environment
    if not environment.get("TRACEPARENT"):
        return {}
    return {name.lower(): environment[name] for name in ("TRACEPARENT", "TRACESTATE") if environment.get(name)}


def exporters_of(signal: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the names in `OTEL_TRACES_EXPORTER` and its siblings; `signal` is one of `SIGNALS`."""
    environment = os.environ if environment is None else environment
    text = environment.get(f"OTEL_{signal.upper()}_EXPORTER", "")
    return [name.strip() for name in text.split(",") if name.strip()]


def otlp_endpoint(signal: str = "traces", environment: Mapping[str, str] | None = None) -> str | None:
    """Return where OTLP goes for `signal`, or None where no endpoint is set."""
    environment = os.environ if environment is None else environment
    name = _endpoint_variable(signal, environment)
    return environment[name].strip() if name is not None else None


def otlp_variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what the environment says of OTLP exporters; endpoints are without the blanks around them."""
    environment = os.environ if environment is None else environment
    given = {name: text for name, text in environment.items() if name.startswith("OTEL_EXPORTER_OTLP_")}
    return {name: text.strip() if name.endswith("_ENDPOINT") else text for name, text in given.items()}


def _endpoint_variable(signal: str, environment: Mapping[str, str]) -> str | None:
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((name for name in names if environment.get(name, "").strip()), None)


def destination(protocol: str, environment: Mapping[str, str] | None = None) -> str:
    """Return where OTLP spans go, as it may be shown: without user, password, and anything like `?key=`."""
    default = "http://localhost:4317" if protocol == "grpc" else "http://localhost:4318"
    scheme, separator, address = (otlp_endpoint("traces", environment) or default).rpartition("://")
    return scheme + separator + address.rpartition("@")[2].partition("?")[0]


SIGNALS = ("traces", "metrics", "logs")

PROTOCOLS = ("http/protobuf", "grpc")
"""What the OTLP exporters of Python speak; the first unless the user chose."""


def otlp_protocol(signal: str = "traces", environment: Mapping[str, str] | None = None) -> str:
    """Return `grpc` or `http/protobuf`: what the user chose, or the latter."""
    chosen = _chosen_protocol(signal, environment)
    return chosen[1] if chosen is not None and chosen[1] in PROTOCOLS else PROTOCOLS[0]


def refusal_of_protocol(signal: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Say what is wrong with the OTLP protocol that the user chose for `signal`; None where nothing is."""
    chosen = _chosen_protocol(signal, environment)
    if chosen is None or chosen[1] in PROTOCOLS:
        return None
    return f"{chosen[0]}={chosen[1]!r} is not valid; use {' or '.join(PROTOCOLS)}"


def refusal_of_endpoint(signal: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Say what is wrong with where OTLP over HTTP is to go for `signal`; None where nothing is."""
    environment = os.environ if environment is None else environment
    name = _endpoint_variable(signal, environment)
    if name is None:
        return None
    scheme, separator, address = environment[name].strip().rpartition("://")
    given = scheme + separator + address.rpartition("@")[2].partition("?")[0]
    if scheme.lower() in ("http", "https") and not given.endswith("://"):
        try:
            _ = urlsplit(given).port
        except ValueError as error:
            return f"{name}={given!r} is not a URL: {error}"
        return None
    wanted = "has no scheme; put http:// or https:// in front" if not separator else "is not an http:// or https:// URL"
    return f"{name}={given!r} {wanted}"


def _chosen_protocol(signal: str, environment: Mapping[str, str] | None) -> tuple[str, str] | None:
    """Return the variable that decides, and its value."""
    environment = os.environ if environment is None else environment
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    return next(((name, text) for name in names if (text := environment.get(name, "").strip())), None)


def chosen_exporters(signal: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the exporters of `signal` by the names users write; without a choice, OTLP where it has an endpoint.

    OpenTelemetry's own default is none. Logs are none of ours, so there it stays.
    """
    names = exporters_of(signal, environment)
    if not names and signal != "logs":
        return ["otlp"] if otlp_endpoint(signal, environment) else []
    return [name for name in names if name.lower() != "none"]


_BATCHES = {
    "OTEL_BSP": {"SCHEDULE_DELAY": 5000, "MAX_QUEUE_SIZE": 20_000, "MAX_EXPORT_BATCH_SIZE": 512},
    "OTEL_BLRP": {"SCHEDULE_DELAY": 1000, "MAX_QUEUE_SIZE": 2048, "MAX_EXPORT_BATCH_SIZE": 512},
}
"""The numbers of batch processors; as many spans may wait for the next batch as for the collector."""


def batches(environment: Mapping[str, str] | None = None) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Return the numbers of batch processors such that the SDK takes them, else it leaves out the whole processor.

    Beside them, what is wrong with each that it would not take, and what is used instead.
    """
    environment = os.environ if environment is None else environment
    numbers: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    for prefix, defaults in _BATCHES.items():
        for part, default in defaults.items():
            name = f"{prefix}_{part}"
            text = environment.get(name, "").strip()
            if text and not (text.isdecimal() and int(text)):
                problems.append((f"{shown(name, environment)} is not a whole number above 0", f"{default} is used"))
                text = ""
            numbers[name] = text or str(default)
        queue, batch = f"{prefix}_MAX_QUEUE_SIZE", f"{prefix}_MAX_EXPORT_BATCH_SIZE"
        if int(numbers[batch]) > int(numbers[queue]):
            if environment.get(batch, "").strip() == numbers[batch]:
                what = f"{shown(batch, environment)} is above {queue}, which is {numbers[queue]}"
                problems.append((what, f"{numbers[queue]} is used"))
            numbers[batch] = numbers[queue]
    return numbers, problems


def id_generator(environment: Mapping[str, str] | None = None) -> str:
    """Return the name in `OTEL_PYTHON_ID_GENERATOR`, `random` where it is not set."""
    environment = os.environ if environment is None else environment
    return environment.get("OTEL_PYTHON_ID_GENERATOR", "").strip() or "random"


def config_file(environment: Mapping[str, str] | None = None) -> str:
    """Return the file in `OTEL_CONFIG_FILE` that the SDK is to be built from; "" where it is not set."""
    environment = os.environ if environment is None else environment
    return environment.get("OTEL_CONFIG_FILE", "")


def named_in(text: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return OpenTelemetry's variables that `text`, the message of an error, names or quotes the value of."""
    environment = os.environ if environment is None else environment
    set_ = [(name, value) for name, value in environment.items() if name.startswith("OTEL_") and value]
    return [name for name, value in set_ if name in text or repr(value) in text]


def shown(name: str, environment: Mapping[str, str] | None = None) -> str:
    """Return `NAME='value'` of a variable, for a message."""
    environment = os.environ if environment is None else environment
    return f"{name}={environment.get(name, '')!r}"


@contextmanager
def replaced(variables: Mapping[str, str]) -> Generator[None]:
    """Within the block the environment has `variables`; child processes started later see none of it.

    An empty text is what OpenTelemetry takes for a variable that is not set.
    """
    saved = {name: os.environ.get(name) for name in variables}
    try:
        os.environ.update(variables)
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
