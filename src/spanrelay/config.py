"""Settings: one table of names, variables, types and defaults, and the only reader of the environment.

Standard `OTEL_*` variables do what OpenTelemetry says; our own are `SPANRELAY_*`. No other module reads them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

from spanrelay.errors import ConfigurationError

Content: TypeAlias = Literal["trajectories", "spans", "off"]
"""Where message content may be recorded: only in trajectories on this machine, in spans too, or nowhere."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What `activate()` needs to know. Every field has a row in `TABLE`."""

    disabled: bool = False
    trajectories: Literal["on", "all", "off"] = "on"
    trajectory_directory: str = "./.spanrelay/trajectories"
    trajectory_bytes: int = 1 << 30
    content: Content = "trajectories"
    dialect: str = "genai"
    pending_bytes: int = 64 << 20
    delivery_bytes: int = 64 << 20
    metrics: bool = True
    quiet: bool = False
    atof_file: str = ""
    atof_mode: Literal["append", "overwrite"] = "append"
    atof_url: str = ""
    atof_headers: str = ""
    config_file: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table: the field, its variable, how its text is read, and what it means."""

    field: str
    variable: str
    read: Callable[[str], Any]
    choices: str
    meaning: str


def _boolean(text: str) -> bool:
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
    return value[text.strip().lower()]


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        value = text.strip().lower()
        if value not in choices:
            raise ValueError(value)
        return value

    return read


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError(text)
    return value


def _http_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError(text)
    return text


def _header_list(text: str) -> str:
    headers(text)
    return text


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
    "span_and_event": "spans",
    "true": "spans",
    "no_content": "off",
    "false": "off",
}

DIALECTS = ("genai", "openinference")
"""The dialects that `semconv` can write; named here too because reading settings must not load it."""

TABLE: tuple[Setting, ...] = (
    Setting("disabled", "OTEL_SDK_DISABLED", _boolean, "true or false", "Record nothing. Policy stays in force."),
    Setting(
        "content",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        lambda text: _CONTENT[text.strip().lower()],
        ", ".join(_CONTENT),
        "Message content in exported spans (span_only, span_and_event, true) or nowhere (no_content, false). "
        "Unset: in trajectories on this machine only.",
    ),
    Setting(
        "trajectories",
        "SPANRELAY_TRAJECTORIES",
        _one_of("on", "all", "off"),
        "on, all or off",
        "Write ATIF trajectories: of sampled traces, of all traces, or none.",
    ),
    Setting(
        "trajectory_directory",
        "SPANRELAY_TRAJECTORY_DIR",
        os.path.expanduser,
        "a folder",
        "Where trajectories are written.",
    ),
    Setting(
        "trajectory_bytes",
        "SPANRELAY_TRAJECTORY_BYTES",
        _positive,
        "a whole number of bytes above 0",
        "The folder's size above which the oldest trajectories are removed.",
    ),
    Setting(
        "dialect",
        "SPANRELAY_DIALECT",
        _one_of(*DIALECTS),
        " or ".join(DIALECTS),
        "Attribute dialect of exported spans.",
    ),
    Setting(
        "pending_bytes",
        "SPANRELAY_PENDING_BYTES",
        _positive,
        "a whole number of bytes above 0",
        "Payload bytes that may wait in memory to be read.",
    ),
    Setting(
        "delivery_bytes",
        "SPANRELAY_DELIVERY_BYTES",
        _positive,
        "a whole number of bytes above 0",
        "Span bytes kept in memory while the collector cannot be reached.",
    ),
    Setting("metrics", "SPANRELAY_METRICS", _boolean, "true or false", "Record the GenAI metrics."),
    Setting("quiet", "SPANRELAY_QUIET", _boolean, "true or false", "Print no line about where trajectories are."),
    Setting(
        "atof_file",
        "SPANRELAY_ATOF_FILE",
        os.path.expanduser,
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
        _http_url,
        "an http:// or https:// address",
        "Where `OTEL_TRACES_EXPORTER=atof` posts events; with message content only if spans have it too.",
    ),
    Setting(
        "atof_headers",
        "SPANRELAY_ATOF_HEADERS",
        _header_list,
        "name=value pairs with commas between",
        "Sent with each post, for instance `authorization=Bearer%20…`; values are URL-encoded.",
    ),
    Setting(
        "config_file",
        "SPANRELAY_CONFIG",
        os.path.expanduser,
        "a file",
        "The `spanrelay.toml` of plugins and policy. Unset: `./spanrelay.toml`, else "
        "`~/.config/spanrelay/spanrelay.toml`. The program does not start when it cannot be read.",
    ),
)


def load(environment: Mapping[str, str] | None = None) -> tuple[Settings, list[str]]:
    """Read the settings of a process.

    A broken value turns its part off rather than into something nobody asked for; the returned problems name
    the variable, its value and what it may be.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    problems: list[str] = []
    for row in TABLE:
        text = environment.get(row.variable, "")
        if not text.strip():
            continue
        try:
            values[row.field] = row.read(text)
        except (KeyError, ValueError):
            problems.append(f"{row.variable}={text!r} is not valid; use {row.choices}")
            values.update(_OFF.get(row.field, {}))
    return Settings(**values), problems


_OFF: dict[str, dict[str, Any]] = {
    "content": {"content": "off"},
    "trajectories": {"trajectories": "off"},
    "trajectory_bytes": {"trajectories": "off"},
}
"""What a broken setting turns off. The others fall back to their defaults, which give nothing away."""


def load_strictly(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of a process.

    Raises:
        ConfigurationError: a value is not valid; the message names every one.
    """
    settings, problems = load(environment)
    if problems:
        raise ConfigurationError("; ".join(problems))
    return settings


Origin: TypeAlias = Literal["system", "chosen", "directory", "user"]
"""Who put a policy file there: the machine's owner, whoever set `SPANRELAY_CONFIG`, nobody knows, or the user."""

SYSTEM_FILE = "/etc/spanrelay/spanrelay.toml"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file that says which plugins are in force."""

    path: str
    origin: Origin


def policy_files(chosen: str = "", environment: Mapping[str, str] | None = None) -> list[PolicyFile]:
    """Return the files that say which plugins are in force, the highest first; looks at names, not into files.

    The system's, and the first that there is of `chosen`, `./spanrelay.toml` and the user's. What may be there but
    cannot be looked at is listed too, so that reading it fails; only a user's folder may be out of reach.
    """
    environment = os.environ if environment is None else environment
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    files = [PolicyFile(SYSTEM_FILE, "system")] if _may_exist(SYSTEM_FILE) else []
    if chosen:
        return [*files, PolicyFile(_absolute(chosen), "chosen")]
    if os.path.lexists("spanrelay.toml"):
        return [*files, PolicyFile(_absolute("spanrelay.toml"), "directory")]
    own = f"{home}/spanrelay/spanrelay.toml"
    return [*files, PolicyFile(own, "user")] if os.path.lexists(own) else files


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:
        return path  # the working directory is gone; reading the file will say so


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


def limits_are_set(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the user chose the number of attributes of a span."""
    environment = os.environ if environment is None else environment
    return any(environment.get(name) for name in ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"))


def exporters_of(signal: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the names in `OTEL_TRACES_EXPORTER` and its siblings; `signal` is traces, metrics or logs."""
    environment = os.environ if environment is None else environment
    text = environment.get(f"OTEL_{signal.upper()}_EXPORTER", "")
    return [name.strip() for name in text.split(",") if name.strip()]


def otlp_endpoint(signal: str = "traces", environment: Mapping[str, str] | None = None) -> str | None:
    """Return where OTLP goes for `signal`, or None where no endpoint is set."""
    environment = os.environ if environment is None else environment
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((environment[name] for name in names if environment.get(name)), None)


def otlp_protocol(signal: str = "traces", environment: Mapping[str, str] | None = None) -> str:
    """Return `grpc` or `http/protobuf`, the latter unless the user chose."""
    environment = os.environ if environment is None else environment
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    return next((environment[name] for name in names if environment.get(name)), "http/protobuf")


def has_config_file(environment: Mapping[str, str] | None = None) -> bool:
    """Whether `OTEL_CONFIG_FILE` is set, so that the SDK is built from that file."""
    environment = os.environ if environment is None else environment
    return bool(environment.get("OTEL_CONFIG_FILE"))


@contextmanager
def exporters_replaced(names: Mapping[str, str]) -> Generator[None]:
    """Within the block, name other exporters in the environment; child processes started later see none of it.

    Without `OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER`, OTLP is used exactly where an endpoint is set.
    """
    saved = {name: os.environ.get(name) for name in ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER")}
    try:
        for signal in ("traces", "metrics"):
            chosen = exporters_of(signal) or (["otlp"] if otlp_endpoint(signal) else ["none"])
            os.environ[f"OTEL_{signal.upper()}_EXPORTER"] = ",".join(names.get(name, name) for name in chosen)
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
