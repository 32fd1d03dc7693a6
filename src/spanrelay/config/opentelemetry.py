"""What OpenTelemetry's own variables say: exporters, endpoints, protocols, batches, and how one stands in a message.

They do what OpenTelemetry says; nothing here gives one a meaning of its own.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit


def disabled_instrumentations(environment: Mapping[str, str] | None = None) -> set[str]:
    """Return the names of `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS`; `*` is all."""
    environment = os.environ if environment is None else environment
    return {name.strip() for name in environment.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}


def limits_are_set(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the user chose the number of attributes of a span; beside a file of OpenTelemetry's, whether it did."""
    environment = os.environ if environment is None else environment
    if path := config_file(environment):
        try:
            # Its words are enough: OpenTelemetry, which has read it, keeps none of it, and takes almost half a second.
            return "attribute_count_limit" in Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return False  # nothing was built from it, which is said elsewhere
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

    An empty text is what OpenTelemetry takes for a variable that is not set. What is so already is left alone: the
    program may change it meanwhile.
    """
    saved = {name: os.environ.get(name) for name, text in variables.items() if os.environ.get(name) != text}
    try:
        os.environ.update({name: variables[name] for name in saved})
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
