"""One line, `spanrelay.activate()`, records what the installed instrumentors are for, into the provider it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.programs import ASK, NOTHING_RECORDED, run

import spanrelay
from spanrelay.tracing import named_provider
from spanrelay_testkit.model_server import ModelServer

ONE_LINE = "import spanrelay\nspanrelay.activate()\n"
BOTH = "from spanrelay_openai import OpenAIInstrumentor\nOpenAIInstrumentor().instrument()\n"
QUIET = {"SPANRELAY_QUIET": "true"}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.mark.parametrize(
    "beginning", [ONE_LINE, f"import openai\n{ONE_LINE}", ONE_LINE + BOTH, BOTH + ONE_LINE, ONE_LINE * 2]
)
@pytest.mark.parametrize("launched", [False, True])
def test_activate_records_what_is_installed_once(
    tmp_path: Path, server: ModelServer, beginning: str, launched: bool
) -> None:
    ran = run(beginning + ASK, tmp_path, server, launched=launched, **QUIET)
    assert (ran.code, ran.err) == (0, "")
    (document,) = ran.trajectories
    assert [step["source"] for step in document["steps"]] == ["user", "agent"]


@pytest.mark.parametrize(
    ("instrument", "recorded"),
    [("False", 0), ("['openai']", 1), ("('spanrelay-openai',)", 1), ("['spanrelay_openai']", 1), ("[]", 0)],
)
def test_one_may_choose_what_is_switched_on(
    tmp_path: Path, server: ModelServer, instrument: str, recorded: int
) -> None:
    program = f"import spanrelay\nspanrelay.activate(instrument={instrument})\n{ASK}"
    ran = run(program, tmp_path, server, launched=False, **QUIET)
    assert (ran.code, ran.err, len(ran.trajectories)) == (0, "", recorded)


@pytest.mark.parametrize("names", ["spanrelay_openai", "a, spanrelay_openai", "*"])
def test_what_the_environment_switches_off_stays_off(tmp_path: Path, server: ModelServer, names: str) -> None:
    settings = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": names, **QUIET}
    ran = run(ONE_LINE + ASK, tmp_path, server, launched=False, **settings)
    assert (ran.code, ran.err, ran.trajectories) == (0, "", [])


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (["opneai"], spanrelay.ConfigurationError, "no instrumentor 'opneai' is installed; did you mean 'openai'?"),
        (["zzz"], spanrelay.ConfigurationError, "no instrumentor 'zzz' is installed; installed: .*openai"),
        ([3], spanrelay.ConfigurationError, "no instrumentor 3 is installed"),
        ("openai", TypeError, r"not 'openai': instrument=\['openai'\]"),
        (None, TypeError, "takes True, False or a list of names, not None"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_before_anything_is_done(
    wrong: object, kind: type[Exception], message: str
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    with pytest.raises(kind, match=message):
        spanrelay.activate(tracer_provider=provider, instrument=wrong)  # type: ignore[arg-type]
    assert named_provider() is None


def test_activate_imports_no_sdk(tmp_path: Path) -> None:
    program = f"{ONE_LINE}import sys\nprint([n for n in ('openai', 'langchain_core', 'httpx') if n in sys.modules])\n"
    ran = run(program, tmp_path, launched=False)
    assert (ran.out, ran.err) == ("[]\n", "")


def test_policy_from_code_holds_with_the_sdk_of_telemetry_off(tmp_path: Path, server: ModelServer) -> None:
    program = f"""{ONE_LINE}
spanrelay.use(spanrelay.guardrail(lambda call: "never", name="never"))
try:
    {ASK.strip().replace(chr(10), chr(10) + "    ")}
except spanrelay.GuardrailRejected as refusal:
    print(refusal.reason)
"""
    ran = run(program, tmp_path, server, launched=False, OTEL_SDK_DISABLED="true")
    assert (ran.out, ran.err, server.requests) == ("never\n", NOTHING_RECORDED, [])


# --- the provider that records -----------------------------------------------------------------------------

Own = tuple[TracerProvider, InMemorySpanExporter]


def own() -> Own:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def activate(provider: TracerProvider) -> spanrelay.Runtime:
    settings = spanrelay.Settings(trajectories="off", metrics=False, quiet=True)
    runtime = spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    assert runtime is not None
    return runtime


def names_of(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


def record(name: str) -> None:
    with spanrelay.scope(name):
        spanrelay.run_tool("t", dict, {})
        spanrelay.run_model(lambda wire: {}, {"model": "m", "messages": []}, codec="openai_chat", provider="p")


def test_what_is_given_no_provider_records_into_the_one_that_activate_was_given() -> None:
    provider, exporter = own()
    runtime = activate(provider)
    try:
        record("mine")
        assert names_of(exporter) == ["execute_tool t", "chat m", "invoke_agent mine"]
        assert all(span.attributes for span in exporter.get_finished_spans())
    finally:
        runtime.shutdown()
    record("after")
    assert len(names_of(exporter)) == 3


def test_of_two_providers_the_one_named_last_records_until_it_is_shut_down() -> None:
    (first, in_first), (second, in_second) = own(), own()
    one, two = activate(first), activate(second)
    try:
        record("b")
        assert spanrelay.activate(one.settings, instrument=False) is two
        two.shutdown()
        record("a")
    finally:
        one.shutdown()
    assert (names_of(in_first)[-1], names_of(in_second)[-1]) == ("invoke_agent a", "invoke_agent b")
    assert (len(names_of(in_first)), len(names_of(in_second))) == (3, 3)


def test_instrumentors_switched_on_before_record_into_the_provider_too(tmp_path: Path, server: ModelServer) -> None:
    program = f"""
import spanrelay
from spanrelay_openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
OpenAIInstrumentor().instrument()
import openai
provider, exporter = TracerProvider(), InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(exporter))
spanrelay.activate(tracer_provider=provider)
{ASK}
print([span.name for span in exporter.get_finished_spans()])
"""
    for launched in (False, True):
        ran = run(program, tmp_path, server, launched=launched, **QUIET)
        assert ran.out.splitlines()[-1] == "['chat m']", ran.err
        assert ran.err == ""


def test_a_notebook_cell_that_ends_with_activate_shows_what_is_recorded_and_where_it_goes(tmp_path: Path) -> None:
    provider = TracerProvider()
    folder = str(tmp_path)
    settings = spanrelay.Settings(trajectory_directory=folder)
    runtime = spanrelay.activate(settings, tracer_provider=provider, instrument=False)
    try:
        assert repr(runtime) == f"<SpanRelay: trajectories, with message content, are written to {folder}>"
    finally:
        assert runtime is not None
        runtime.shutdown()
    assert repr(runtime) == "<SpanRelay, not recording>"


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ({"SPANRELAY_TRAJECTORIES": "off"}, "no trajectories"),
        ({"SPANRELAY_TRAJECTORIES": "memory"}, "trajectories stay in memory: spanrelay.trajectories()"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "SPANRELAY_TRAJECTORIES": "off"},
            "no trajectories; spans go to http://127.0.0.1:9 without message content",
        ),
    ],
)
def test_the_runtime_shows_what_its_settings_do(
    tmp_path: Path, server: ModelServer, setting: dict[str, str], shown: str
) -> None:
    ran = run("import spanrelay; print(spanrelay.activate())", tmp_path, server, launched=False, **setting)
    assert ran.out == f"<SpanRelay: {shown}>\n"
