"""What the settings of this environment do to a trace: wrong names and values, sampling, content and limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from spanrelay import config, sdk
from spanrelay.doctor.declaration import Declaration, borrowed
from spanrelay.doctor.findings import Case, Finding

_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_LENGTHS = ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
_COUNTS = ("OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_EVENT_COUNT_LIMIT")
_LENGTHS_OF_FILE = ("attribute_value_length_limit",)
_COUNTS_OF_FILE = ("attribute_count_limit", "event_count_limit")
_HTTP_HEADERS = (
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
)
_SANITIZE = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS"
_UNREAD = re.compile(
    r"OTEL_(?:(?:TRACES|METRICS|LOGS)_EXPORTER|TRACES_SAMPLER(?:_ARG)?|BLRP_\w+|EXPORTER_OTLP_(?:\w+_)?PROTOCOL)"
)
"""Variables that the SDK does not read beside a file; those of OTLP exporters it does, where the file says nothing."""

_ENOUGH = 128
"""Attributes of a span that OpenTelemetry allows unless asked; a model call with a few tools has as many."""


def names(case: Case) -> Iterator[Finding]:
    """Look for variables that nothing reads, and values that are not valid."""
    for problem in case.problems:
        what, _, instead = problem.rpartition("; ")
        yield Finding("fail", what, instead, "set it to one of these, or take it out")
    for problem in sdk.problems():
        yield Finding("fail", problem.what, problem.instead, "set it right, or take it out")
    for told in config.unknown_names(case.environment):
        what, _, remedy = told.partition("; ")
        yield Finding("warn", what, "nothing reads it", remedy)
    if case.settings.disabled:
        yield Finding(
            "fail",
            "OTEL_SDK_DISABLED is true",
            "nothing is recorded; policy holds all the same",
            "take OTEL_SDK_DISABLED out",
        )
    if case.declared is not None:
        yield from _declared(case.declared, case.environment)


def _declared(found: Declaration, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Say whether the file can be used, and which variables do nothing beside it."""
    named = f"OTEL_CONFIG_FILE names {found.path}"
    if found.fault:
        yield Finding("fail", f"{named}, which cannot be used: {found.fault}", "nothing is exported", found.cure)
        return
    if not found.records:
        yield Finding(
            "fail",
            f"{named}, which has no tracer_provider or is disabled",
            "nothing is recorded",
            "write a tracer_provider with a processor into it, and take `disabled` out",
        )
    names = ", ".join(f"{each.shown} of {each.signal}" for each in found.exporters) or "none"
    yield Finding(
        "pass", f"{named}, which is valid, of format {found.version}; its sampler: {found.sampler}; exporters: {names}"
    )
    text = Path(found.path).read_text("utf-8")
    unread = sorted(name for name in _set(environment) if _UNREAD.fullmatch(name) and f"${{{name}" not in text)
    unread += sorted(set(_unneeded(found, environment, text)))
    if unread:
        yield Finding(
            "warn",
            f"{', '.join(unread)}: set, and not read beside OTEL_CONFIG_FILE",
            "the file says it all",
            f"say it in {found.path}, as ${{{unread[0]}}} for instance, or take it out",
        )


def _set(environment: Mapping[str, str]) -> Iterator[str]:
    return (name for name, value in environment.items() if value.strip())


def _unneeded(found: Declaration, environment: Mapping[str, str], text: str) -> Iterator[str]:
    """Yield variables of endpoints and headers that no exporter of the file takes."""
    taken = {name for exporter in found.exporters for name in borrowed(exporter, environment).values()}
    for name in _set(environment):
        part = re.fullmatch(r"OTEL_EXPORTER_OTLP_(?:(?:TRACES|METRICS|LOGS)_)?(?:ENDPOINT|HEADERS)", name)
        if part is not None and name not in taken and f"${{{name}" not in text:
            yield name


def sampling(case: Case) -> Iterator[Finding]:
    """Look at which traces are recorded at all."""
    found = case.declared
    if found is not None and found.fault:
        return  # it has been said of the file
    if found is not None:
        name, given, said = found.sampler, "", f"{found.path} has the sampler {found.sampler}"
        cure = f"`sampler: {{parent_based: {{root: {{always_on: {{}}}}}}}}` in {found.path}"
    else:
        name = case.environment.get("OTEL_TRACES_SAMPLER", "").strip().lower()
        given, said = case.environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip(), f"OTEL_TRACES_SAMPLER={name}"
        cure = "OTEL_TRACES_SAMPLER=parentbased_always_on"
    cure += "; SPANRELAY_TRAJECTORIES=all writes trajectories all the same"
    if not name or name.endswith("always_on"):
        yield Finding("pass", "every trace is sampled")
    elif name == "always_off":
        yield Finding("fail", f"{said}: no trace is sampled", "no span is exported", cure)
    elif name == "parentbased_always_off":
        yield Finding(
            "fail",
            f"{said}: a trace that begins here is not sampled",
            "no span is exported unless a caller has sampled its trace",
            cure,
        )
    elif name.endswith("traceidratio"):
        yield _of_ratio(said, _ratio(given) if found is None else found.ratio, given, cure)
    else:
        # In quotes, what may be a key in the wrong line is hidden.
        shown = f"OTEL_TRACES_SAMPLER={name!r}" if found is None else said
        yield Finding(
            "warn",
            f"{shown}, which decides what is sampled",
            "a trace that it leaves out is in no exporter and no trajectory",
            cure,
        )


def _ratio(given: str) -> float | None:
    """Return the number from 0 to 1 that a text is, 1 where there is none; None where it is no such number."""
    try:
        ratio = float(given) if given else 1.0
    except ValueError:
        return None
    return ratio if 0 <= ratio <= 1 else None


def _of_ratio(said: str, ratio: float | None, given: str, cure: str) -> Finding:
    if ratio is None:
        return Finding(
            "fail",
            f"OTEL_TRACES_SAMPLER_ARG={given!r} is not a number from 0 to 1",
            "OpenTelemetry takes 1, and every trace is sampled",
            "OTEL_TRACES_SAMPLER_ARG=0.1, for instance",
        )
    if ratio == 1:
        return Finding("pass", "every trace is sampled")
    return Finding(
        "fail" if ratio == 0 else "warn",
        f"{said}: it samples {ratio:.3g} of all traces",
        "the others are in no exporter and no trajectory",
        cure,
    )


def content(case: Case) -> Iterator[Finding]:
    """Look at where message content may be."""
    settings = case.settings
    names = config.chosen_exporters("traces", case.environment)
    sends = bool(
        names if case.declared is None else [each for each in case.declared.exporters if each.signal == "traces"]
    )
    if settings.content == "off":
        yield Finding(
            "warn",
            f"{_CAPTURE} lets message content be recorded nowhere",
            "no trajectories are written, and spans have figures only",
            f"{_CAPTURE}=trajectories keeps it on this machine",
        )
    elif settings.spans_have_content or settings.events_have_content:
        where = "exported spans" if settings.spans_have_content else "exported events"
        yield Finding(
            "warn" if sends else "pass",
            f"message content is in {where}, since {_CAPTURE} asks for it",
            "prompts, answers and tools' results leave this machine, with what people said in them",
            f"{_CAPTURE}=trajectories, or the plugin pii_redaction (docs/pii.md)",
        )
    elif settings.trajectories == "off":
        yield Finding("pass", "message content is in no exported span, and no trajectories are written here")
    else:
        yield Finding("pass", "message content is in trajectories on this machine, and in no exported span")
    for name in _HTTP_HEADERS:
        if case.environment.get(name, "").strip() and not case.environment.get(_SANITIZE, "").strip():
            yield Finding(
                "warn",
                f"{name} lets instrumentation of HTTP record headers, and {_SANITIZE} is not set",
                "keys in headers of a form that nobody knows would be in spans",
                f"{_SANITIZE}=authorization,cookie,set-cookie,x-api-key",
            )


def limits(case: Case) -> Iterator[Finding]:
    """Look at limits that cut what spans carry."""
    found = False
    declared = case.declared is not None  # then variables are not read
    given = case.environment if case.declared is None else case.declared.limits
    lengths, counts = (_LENGTHS_OF_FILE, _COUNTS_OF_FILE) if declared else (_LENGTHS, _COUNTS)
    for name in (*lengths, *counts):
        if _number(given, name) is None and given.get(name, "").strip():
            found = True
            yield Finding(
                "fail",
                f"{name} is not a whole number",
                "OpenTelemetry refuses to build a tracer provider with it",
                f"set it right, or take {name} out",
            )
    for name in lengths:
        number = _number(given, name)
        if number is not None:
            found = True
            yield Finding(
                "warn",
                f"{name}={number} cuts every longer value of an attribute",
                "message content in exported spans ends there, and cannot be read as JSON; trajectories are whole",
                f"take {name} out, or leave content out of spans",
            )
    for name in counts:
        number = _number(given, name)
        if number is not None and number < _ENOUGH:
            found = True
            yield Finding(
                "warn",
                f"{name}={number} is below {_ENOUGH}",
                "spans of model calls lose attributes above it, the first ones first",
                f"take {name} out",
            )
    if not found:
        yield Finding("pass", "no limit cuts what spans carry")


def _number(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name, "").strip()
    return int(text) if text.isdecimal() else None
