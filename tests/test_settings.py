"""Settings from code and from the environment go through one table: the same words, the same refusals."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import opentelemetry.sdk.trace
import pytest

from spanrelay import config
from spanrelay.config import TABLE, Settings, load, load_strictly, unknown_names
from spanrelay.errors import ConfigurationError
from spanrelay.runtime import activate

CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def settings(**fields: Any) -> Settings:
    """Settings as code may write them where no type checker looks."""
    return Settings(**fields)


@pytest.mark.parametrize(
    ("field", "given", "meant"),
    [
        ("content", "no_content", "off"),
        ("content", "SPAN_ONLY", "spans"),
        ("content", "event_only", "events"),
        ("content", "span_and_event", "spans_and_events"),
        ("content", False, "off"),
        ("content", "trajectories", "trajectories"),
        ("dialect", "OpenInference", "openinference"),
        ("trajectories", "ALL", "all"),
        ("content", "1", "spans"),
        ("content", "Yes", "spans"),
        ("content", "on", "spans"),
        ("content", 0, "off"),
        ("content", "no", "off"),
        ("pending_bytes", "65536", 65536),
        ("pending_bytes", "64 KiB", 65536),
        ("trajectory_bytes", "1MB", 1 << 20),
        ("delivery_bytes", "2g", 2 << 30),
        ("metrics", "no", False),
        ("trajectories", "0", "off"),
        ("trajectories", True, "on"),
        ("sigterm", "yes", "on"),
        ("disabled", True, True),
        ("config_file", "", ""),
    ],
)
def test_code_may_say_what_the_environment_may_say(field: str, given: Any, meant: object) -> None:
    assert getattr(settings(**{field: given}), field) == meant


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("content", "some"),
        ("trajectories", "some"),
        ("trajectories", None),
        ("dialect", "otel"),
        ("pending_bytes", "64 apples"),
        ("pending_bytes", "1.5MB"),
        ("pending_bytes", "MB"),
        ("pending_bytes", 0),
        ("delivery_bytes", True),
        ("trajectory_bytes", 1.5),
        ("trajectory_directory", ""),
        ("trajectory_directory", None),
        ("config_file", 7),
        ("metrics", "perhaps"),
        ("disabled", "yes"),
    ],
)
def test_a_field_that_is_not_valid_is_named_with_its_value_and_the_choices(field: str, given: Any) -> None:
    choices = next(row.choices for row in TABLE if row.field == field)
    with pytest.raises(ConfigurationError) as raised:
        settings(**{field: given})
    assert str(raised.value) == f"{field}={given!r} is not valid; use {choices}"


def test_every_field_that_is_not_valid_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"trajectories='some'.*; metrics='perhaps'"):
        settings(trajectories="some", metrics="perhaps")


def test_settings_made_from_settings_are_the_same() -> None:
    made = settings(content="no_content", trajectory_directory="x", config_file="y")
    assert replace(made) == made


def test_folders_do_not_move_with_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = [Settings(), load({})[0], settings(trajectory_directory=Path(".spanrelay") / "trajectories")]
    os.chdir("/")
    assert {each.trajectory_directory for each in made} == {str(tmp_path / ".spanrelay" / "trajectories")}


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Settings(trajectory_directory="~/x").trajectory_directory == "/home/somebody/x"
    assert load({"SPANRELAY_TRAJECTORY_DIR": "~/x"})[0].trajectory_directory == "/home/somebody/x"


def test_content_goes_where_the_word_says() -> None:
    told = {word: load({CONTENT: word})[0] for word in ("trajectories", "span_only", "event_only", "span_and_event")}
    assert {word: (made.spans_have_content, made.events_have_content) for word, made in told.items()} == {
        "trajectories": (False, False),
        "span_only": (True, False),
        "event_only": (False, True),
        "span_and_event": (True, True),
    }
    assert load({}) == (Settings(content="trajectories"), [])


@pytest.mark.parametrize(("text", "disabled"), [("true", True), (" TRUE ", True), ("false", False), ("0", False)])
def test_the_sdk_is_disabled_by_the_word_that_the_sdk_takes(text: str, disabled: bool) -> None:
    assert load({"OTEL_SDK_DISABLED": text}) == (Settings(disabled=disabled), [])


def test_another_word_for_a_disabled_sdk_is_refused_because_the_sdk_would_record() -> None:
    read, problems = load({"OTEL_SDK_DISABLED": "1"})
    assert not read.disabled
    assert problems == ["OTEL_SDK_DISABLED='1' is not valid; use true or false; the default, false, is used"]


@pytest.mark.parametrize(
    ("variable", "instead", "told"),
    [
        ("SPANRELAY_TRAJECTORIES", Settings(trajectories="off"), "no trajectories are written"),
        ("SPANRELAY_TRAJECTORY_BYTES", Settings(), "the default, 1073741824, is used"),
        (CONTENT, Settings(content="off"), "message content is recorded nowhere, so no trajectories are written"),
        ("SPANRELAY_DIALECT", Settings(), "the default, genai, is used"),
        ("SPANRELAY_PENDING_BYTES", Settings(), "the default, 67108864, is used"),
        ("SPANRELAY_METRICS", Settings(), "the default, true, is used"),
    ],
)
def test_a_broken_value_is_told_with_what_happens_instead(variable: str, instead: Settings, told: str) -> None:
    read, [problem] = load({variable: "bogus"})
    assert read == instead
    assert problem.startswith(f"{variable}='bogus' is not valid; use ")
    assert problem.endswith(f"; {told}")


def test_the_number_of_attributes_is_chosen_where_it_is_read(tmp_path: Path) -> None:
    (file := tmp_path / "otel.yaml").write_text("attribute_limits: {attribute_value_length_limit: 9}\n")
    variables = {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "128"}
    assert config.limits_are_set(variables) and not config.limits_are_set({})
    assert not config.limits_are_set({**variables, "OTEL_CONFIG_FILE": str(file)}), "no variable is read beside a file"
    file.write_text("tracer_provider:\n  limits:\n    attribute_count_limit: 128\n")
    assert config.limits_are_set({"OTEL_CONFIG_FILE": str(file)})
    assert not config.limits_are_set({"OTEL_CONFIG_FILE": str(tmp_path / "gone.yaml")})


def test_an_unknown_name_is_told_with_the_nearest_known_one() -> None:
    environment = {"SPANRELAY_TRAJECTORY": "off", "SPANRELAY_QUITE": "true", "SPANRELAY_QUIET": "true", "PATH": "/bin"}
    environment["SPANRELAY_LOG_LEVEL"] = "debug"
    assert unknown_names(environment) == [
        "SPANRELAY_LOG_LEVEL is not a setting; remove it; docs/settings.md lists them",
        "SPANRELAY_QUITE is not a setting; did you mean SPANRELAY_QUIET?",
        "SPANRELAY_TRAJECTORY is not a setting; did you mean SPANRELAY_TRAJECTORY_DIR or SPANRELAY_TRAJECTORIES?",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPONT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_EXPORTER_OLTP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_EXPORTER_OTLP_HEADER", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENTS", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"),
        ("OTEL_PROPOGATORS", "OTEL_PROPAGATORS"),
        ("OTEL_PYTHON_DISABLED_INSTRUMENTATION", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"),
        ("OTEL_SDK_DISABLE", "OTEL_SDK_DISABLED"),
        ("OTEL_SERVICENAME", "OTEL_SERVICE_NAME"),
        ("OTEL_TRACE_SAMPLER", "OTEL_TRACES_SAMPLER"),
        ("OTEL_TRACES_SAMPLER_ARGS", "OTEL_TRACES_SAMPLER_ARG"),
    ],
)
def test_a_misspelt_name_of_opentelemetry_is_told(name: str, meant: str) -> None:
    assert unknown_names({name: "x"}) == [f"{name} is not a variable of OpenTelemetry's; did you mean {meant}?"]


def test_other_names_of_opentelemetry_and_of_vendors_are_not_told() -> None:
    others = """
        OTEL_COLLECTOR_URL OTEL_DOTNET_AUTO_HOME OTEL_EXPORTER_JAEGER_ENDPOINT OTEL_EXPORTER_OTLP_PROFILES_ENDPOINT
        OTEL_EXPORTER_OTLP_USER_HEADERS OTEL_NODE_DISABLED_INSTRUMENTATIONS OTEL_PHP_DISABLED_INSTRUMENTATIONS
        OTEL_RESOURCE_ATTRIBUTES_POD_NAME OTEL_SERVICE_NAME_OVERRIDE OTEL_SERVICE_NAMESPACE
    """
    package = Path(opentelemetry.sdk.trace.__file__).parents[2]
    read = [re.findall(r"\"(OTEL_[A-Z0-9_]+)\"", path.read_text()) for path in package.rglob("*.py")]
    names = {*others.split(), *(name for each in read for name in each)}
    assert "OTEL_TRACES_EXPORTER" in names
    assert unknown_names(dict.fromkeys(names, "")) == []


def test_no_name_that_anything_here_reads_is_unknown() -> None:
    root = Path(__file__).parents[1]
    configured = [path for path in (root / "collector-config").rglob("*") if path.is_file()]
    files = [root / "docker-compose.yml", *configured, *(root / "tests").rglob("*.py")]
    names = {name for file in files for name in re.findall(r"\bSPANRELAY_[A-Z0-9_]+\b", file.read_text())}
    names -= {"SPANRELAY_LOG_LEVEL", "SPANRELAY_TRAJECTORY", "SPANRELAY_QUITE", "SPANRELAY_ATOF_"}
    assert "SPANRELAY_OUTPUT_DIR" in names
    assert unknown_names(dict.fromkeys(names, "")) == []


def test_a_broken_value_that_may_be_a_key_is_not_shown() -> None:
    assert load({"SPANRELAY_ATOF_HEADERS": "Bearer abc"})[1] == [
        "SPANRELAY_ATOF_HEADERS=(not shown) is not valid; use name=value pairs separated by commas; "
        "no events are written"
    ]


def test_read_strictly_a_broken_value_is_an_error_and_nothing_happens_instead() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_strictly({"SPANRELAY_DIALECT": "bogus"})
    assert str(raised.value) == "SPANRELAY_DIALECT='bogus' is not valid; use genai or openinference"


def test_activate_takes_settings_and_no_dict() -> None:
    wrong: Any = {"content": "spans"}
    with pytest.raises(TypeError, match=r"activate\(\) takes a spanrelay.Settings, not a 'dict': activate\("):
        activate(wrong)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("http://collector:4318", None),
        ("HTTPS://me:word@collector", None),
        ("me:word@collector:4318/in?key=1", "'collector:4318/in' has no scheme; put http:// or https:// in front"),
        ("htp://collector", "'htp://collector' is not an http:// or https:// URL"),
        ("http://", "'http://' is not an http:// or https:// URL"),
        ("http://[::1]:4318", None),
        ("http://[::1:4318", "'http://[::1:4318' is not a URL: Invalid IPv6 URL"),
        ("http://me:word@h:99999/in", "'http://h:99999/in' is not a URL: Port out of range 0-65535"),
        ("http://h:abc", "'http://h:abc' is not a URL: Port could not be cast to integer value as 'abc'"),
    ],
)
def test_an_address_without_a_scheme_is_refused_and_shows_no_password(endpoint: str, told: str | None) -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        said = config.refusal_of_endpoint("traces", {name: endpoint})
        assert said == (told and f"{name}={told}")
    assert config.refusal_of_endpoint("traces", {}) is None


@pytest.mark.parametrize("given", ["", "{", "{other}", "{session!r}", "{session:>9}", "{session.id}", "{}", 7])
def test_a_pattern_of_names_that_nothing_could_fill_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"use a string that may contain \{session\}, \{trace\}, \{agent\}"):
        Settings(trajectory_name=given)


def test_a_pattern_of_names_may_have_braces_of_its_own() -> None:
    assert load({"SPANRELAY_TRAJECTORY_NAME": "{{x}}-{agent}"})[0].trajectory_name == "{{x}}-{agent}"
