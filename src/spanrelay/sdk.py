"""Builds the SDK's providers: OpenTelemetry's own configurator, with exporters that lose nothing on the way.

What the environment says wrongly never stops the launcher: the instrumentors, and policy with them, load after this.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider
from opentelemetry.util._importlib_metadata import entry_points

from spanrelay import config
from spanrelay.errors import ConfigurationError
from spanrelay.telemetry.succession import succession

_log = logging.getLogger("spanrelay")

_OURS = {
    "otlp": "spanrelay_otlp",
    "otlp_proto_http": "spanrelay_otlp_http",
    "otlp_proto_grpc": "spanrelay_otlp_grpc",
}
"""The reliable exporters that stand in for the stock ones of traces and metrics."""

_NO_EXPORTERS = {f"OTEL_{signal.upper()}_EXPORTER": "none" for signal in config.SIGNALS}


class SpanRelayConfigurator(_OTelSDKConfigurator):
    """Entry point `opentelemetry_configurator`: the standard configuration with reliable OTLP exporters."""

    def _configure(self, **kwargs: Any) -> None:
        """Set up what can be, and say in one line each what cannot."""
        variables, problems = _read()
        for problem in problems:
            _log.error("%s; %s", problem.what, problem.instead)
        try:
            self._build(variables, kwargs)
        except Exception as error:
            _log.error("%s; %s", _told(error), self._build_around(error, variables, kwargs))

    def configure_strictly(self) -> None:
        """Set up the SDK as the environment says.

        Raises:
            ConfigurationError: a variable is not valid, or the SDK refuses; the message names what is known of it.
        """
        variables, problems = _read()
        if problems:
            raise ConfigurationError("; ".join(problem.what for problem in problems))
        try:
            self._build(variables, {})
        except Exception as error:
            raise ConfigurationError(_told(error)) from error

    def _build(self, variables: dict[str, str], kwargs: dict[str, Any]) -> None:
        with config.replaced(variables), one_voice(), succession.building():
            # A file takes none: the SDK would warn of what its own launcher gives.
            super()._configure(**({} if config.config_file() else kwargs))

    def _build_around(self, error: Exception, variables: dict[str, str], kwargs: dict[str, Any]) -> str:
        """Try once more without what failed, and return what that comes to."""
        if not isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
            return "what OpenTelemetry had not set up by then stays off"
        blamed = [] if config.config_file() else config.named_in(str(error))
        # Without exporters at least trajectories are written, which need none.
        rest = variables if blamed else {"OTEL_CONFIG_FILE": "", **_NO_EXPORTERS}
        try:
            self._build({**rest, **dict.fromkeys(blamed, "")}, kwargs)
        except Exception:
            trace.set_tracer_provider(NoOpTracerProvider())  # so that nothing tries again
            return "nothing is recorded"
        return "the default is used" if blamed else "nothing is exported"


class Problem(NamedTuple):
    """What is wrong with a variable, and what happens where that is no reason to stop."""

    what: str
    instead: str


def problems() -> list[Problem]:
    """Return what is wrong with the variables that the SDK would be built from."""
    return _read()[1]


def _read() -> tuple[dict[str, str], list[Problem]]:
    """Return the variables that the SDK is to read instead, and what is wrong with those of the user."""
    if config.config_file():
        return {}, []  # it says all
    variables = config.otlp_variables()
    problems: list[Problem] = []
    for signal in config.SIGNALS:
        names, wrong = _exporters(signal)
        variables[f"OTEL_{signal.upper()}_EXPORTER"] = ",".join(names) or "none"
        problems += wrong
    numbers, wrong_numbers = config.batches()
    variables |= numbers
    problems += (Problem(*wrong) for wrong in wrong_numbers)
    variables["OTEL_PYTHON_ID_GENERATOR"] = name = config.id_generator()
    if (what := _refusal("OTEL_PYTHON_ID_GENERATOR", name, "opentelemetry_id_generator")) is not None:
        variables["OTEL_PYTHON_ID_GENERATOR"] = "random"
        problems.append(Problem(what, "the default, random, is used"))
    return variables, list(dict.fromkeys(problems))


def _exporters(signal: str) -> tuple[list[str], list[Problem]]:
    """Return the exporters of a signal that there are, as the SDK is to name them, and what the others lack."""
    usable: list[str] = []
    problems: list[Problem] = []
    for name in config.chosen_exporters(signal):
        if name == "otlp" and (what := config.refusal_of_protocol(signal)) is not None:
            problems.append(Problem(what, f"{config.PROTOCOLS[0]} is used"))
        if _is_http(name, signal) and (what := config.refusal_of_endpoint(signal)) is not None:
            problems.append(Problem(what, f"{name!r} is left out"))
            continue
        ours = (_stock_for_logs() if signal == "logs" else _OURS).get(name, name)
        what = _refusal(f"OTEL_{signal.upper()}_EXPORTER", ours, f"opentelemetry_{signal}_exporter")
        if what is None:
            usable.append(ours)
        else:
            problems.append(Problem(what, f"{name!r} is left out"))
    return usable, problems


def _is_http(name: str, signal: str) -> bool:
    """Whether an exporter speaks OTLP over HTTP, which needs an address; gRPC takes a host and a port."""
    return name == "otlp_proto_http" or (name == "otlp" and config.otlp_protocol(signal) != "grpc")


def _stock_for_logs() -> dict[str, str]:
    """Return what `otlp` means for logs; left to itself, it refuses a protocol that it does not know."""
    return {"otlp": "otlp_proto_grpc" if config.otlp_protocol("logs") == "grpc" else "otlp_proto_http"}


def _refusal(variable: str, name: str, group: str) -> str | None:
    """Say why nothing can be built from the entry point `name` that `variable` asks for; None where it can."""
    found = next(iter(entry_points(group=group, name=name)), None)
    if found is None:
        choices = sorted({entry.name for entry in entry_points(group=group)} - set(_OURS.values()))
        return f"{config.shown(variable)} is not valid; use {', '.join(choices)}"
    try:
        found.load()
    except Exception as error:
        return f"{config.shown(variable)} cannot be used: {_line(error)}"
    return None


def _told(error: Exception) -> str:
    """Say that the SDK could not be set up, and name the variable if it can be known."""
    names = ["OTEL_CONFIG_FILE"] if config.config_file() else config.named_in(str(error))
    subject = " or ".join(map(config.shown, names)) or "the environment's settings of OpenTelemetry"
    return f"{subject} cannot be used: {_line(error)}"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


_LOADER = "opentelemetry.configuration.file._loader"


@contextmanager
def one_voice() -> Generator[None]:
    """Within the block, keep the reader of configuration files from logging what it raises too."""

    def is_only_logged(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR

    logger = logging.getLogger(_LOADER)
    logger.addFilter(is_only_logged)
    try:
        yield
    finally:
        logger.removeFilter(is_only_logged)
