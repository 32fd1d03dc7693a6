"""A program that has OpenTelemetry already: its own provider, set before us, after us, or under the launcher."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.exporters.otlp_server import OtlpServer
from tests.programs import ASK, Run, run

from spanrelay_testkit.model_server import ModelServer

IMPORTS = """
import json
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
"""
OWN = (
    IMPORTS
    + """
exporter = InMemorySpanExporter()
provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
"""
)
SHOW = """
print("GOT", json.dumps([(s.name, s.resource.attributes["service.name"]) for s in exporter.get_finished_spans()]))
"""
ACTIVATE = "import spanrelay\nspanrelay.activate()\n"
TOLD = (
    "spanrelay: the program has set a tracer provider of its own: spans have its resource and sampler, and go to its "
    "exporters"
)
QUIET = {"SPANRELAY_QUIET": "true"}


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def collector() -> Iterator[OtlpServer]:
    running = OtlpServer()
    yield running
    running.close()


def got(ran: Run) -> list[list[str]]:
    """What the program printed behind GOT."""
    (line,) = [line for line in ran.out.splitlines() if line.startswith("GOT ")]
    return json.loads(line[4:])


WAYS = {
    "launched": (True, OWN + ASK),
    "launched, the SDK imported before": (True, "import openai\n" + OWN + ASK),
    "launched, activated too": (True, ACTIVATE + OWN + ASK),
    "launched, activated behind it": (True, OWN + ACTIVATE + ASK),
    "activated before": (False, ACTIVATE + OWN + ASK),
    "activated before, the SDK imported before that": (False, "import openai\n" + ACTIVATE + OWN + ASK),
    "activated after": (False, OWN + ACTIVATE + ASK),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_programs_exporter_gets_each_span_once_with_its_resource(
    tmp_path: Path, server: ModelServer, way: str
) -> None:
    launched, program = WAYS[way]
    ran = run(program + SHOW, tmp_path, server, launched=launched, **QUIET)
    assert (ran.code, ran.err) == (0, "")
    assert got(ran) == [["chat m", "shop"]]
    assert ran.said == ["hello", "You said: hello"]


def test_it_is_said_once_that_the_programs_provider_records(tmp_path: Path, server: ModelServer) -> None:
    for begins in ("", "import openai\n"):
        ran = run(begins + OWN + ASK + ASK, tmp_path, server)
        written = f"trajectories, with message content, are written to {tmp_path / '.spanrelay' / 'trajectories'}"
        assert ran.err.splitlines() == [TOLD, f"spanrelay: {written}"]


def test_a_program_that_records_nothing_is_told_nothing(tmp_path: Path) -> None:
    ran = run(OWN + SHOW, tmp_path)
    assert (ran.code, ran.err, got(ran)) == (0, "", [])


def test_the_global_provider_is_the_programs(tmp_path: Path) -> None:
    program = "from opentelemetry import trace\nbefore = trace.get_tracer_provider()\n" + OWN
    program += """
assert trace.get_tracer_provider() is provider
later = InMemorySpanExporter()
before.add_span_processor(SimpleSpanProcessor(later))  # somebody took it earlier
trace.get_tracer("app").start_span("work").end()
assert [span.name for span in later.get_finished_spans()] == ["work"]
assert before.resource is provider.resource and before.force_flush()
"""
    ran = run(program + SHOW, tmp_path)
    assert (ran.code, ran.err) == (0, "\n".join([TOLD, ""]))
    assert got(ran) == [["work", "shop"]]


def test_a_second_provider_is_refused_as_without_us(tmp_path: Path) -> None:
    program = OWN + "trace.set_tracer_provider(TracerProvider())\ntrace.set_tracer_provider(provider)\n"
    program += "assert trace.get_tracer_provider() is provider\n"
    for launched in (True, False):
        ran = run(program + SHOW, tmp_path, launched=launched)
        assert (ran.code, ran.err) == (0, "Overriding of current TracerProvider is not allowed\n" * 2)


# --- what was begun before ---------------------------------------------------------------------------------


def test_tracers_taken_and_spans_begun_before_go_on_with_the_programs_provider(
    tmp_path: Path, server: ModelServer
) -> None:
    early = """
from opentelemetry import trace
tracer = trace.get_tracer("early", "1.0")
tracer.start_span("before").end()
begun = tracer.start_as_current_span("begun")
begun.__enter__()
"""
    late = """
tracer.start_span("after").end()
begun.__exit__(None, None, None)
chat, after, begun = exporter.get_finished_spans()
assert chat.parent.span_id == after.parent.span_id == begun.context.span_id
"""
    ran = run(early + OWN + ASK + late + SHOW, tmp_path, server, **QUIET)
    assert (ran.code, ran.err) == (0, "")
    name = "unknown_service:python"
    assert got(ran) == [["chat m", "shop"], ["after", "shop"], ["begun", name]]


def test_a_proxy_tracer_taken_before_anything_goes_on_with_it_too(tmp_path: Path, server: ModelServer) -> None:
    early = "from opentelemetry import trace\ntracer = trace.get_tracer('early')\n" + ACTIVATE
    early += "tracer.start_span('before').end()\n"
    ran = run(early + OWN + "tracer.start_span('after').end()\n" + SHOW, tmp_path, launched=False, **QUIET)
    assert (ran.code, ran.err, got(ran)) == (0, "", [["after", "shop"]])


def test_sampler_ids_and_limits_are_the_programs(tmp_path: Path, server: ModelServer) -> None:
    own = f"""
from opentelemetry import trace
tracer = trace.get_tracer("early")
tracer.start_span("before").end()
{IMPORTS}
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

class Ids(IdGenerator):
    last = 0
    def generate_span_id(self):
        self.last += 1
        return self.last
    generate_trace_id = generate_span_id

class NoTools(Sampler):
    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None):
        return SamplingResult(Decision.DROP if name == "dropped" else Decision.RECORD_AND_SAMPLE, attributes)
    def get_description(self):
        return "no tools"

exporter = InMemorySpanExporter()
limits = SpanLimits(max_span_attributes=3)
__import__("logging").getLogger("opentelemetry").setLevel("ERROR")  # each attribute that it drops is a warning
provider = TracerProvider(sampler=NoTools(), id_generator=Ids(), span_limits=limits)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tracer.start_span("dropped").end()
tracer.start_span("kept", attributes={{"a": 1, "b": 2, "c": 3, "d": 4}}).end()
"""
    show = """
for span in exporter.get_finished_spans():
    assert span.context.span_id < 100 and len(span.attributes) == 3, (span.context, dict(span.attributes))
print("GOT", json.dumps([span.name for span in exporter.get_finished_spans()]))
"""
    ran = run(own + ASK + show, tmp_path, server, **QUIET)
    assert (ran.code, ran.err, got(ran)) == (0, "", ["kept", "chat m"])


def test_a_provider_set_in_a_forked_child_is_taken_there(tmp_path: Path, server: ModelServer) -> None:
    calm = "import warnings\nwarnings.filterwarnings('ignore', 'This process .* is multi-threaded')\n"  # on purpose
    begin = (
        f"{calm}import os, openai\nfrom opentelemetry import trace\ntrace.get_tracer('main').start_span('boot').end()\n"
    )
    child = "\n".join(f"    {line}" for line in (OWN + ASK + SHOW).splitlines())
    ran = run(
        f"{begin}if pid := os.fork():\n    raise SystemExit(os.waitpid(pid, 0)[1])\nelse:\n{child}\n",
        tmp_path,
        server,
        **QUIET,
    )
    assert (ran.code, ran.err, got(ran)) == (0, "", [["chat m", "shop"]])
    assert ran.said[-2:] == ["hello", "You said: hello"]


def test_what_observers_change_holds_for_the_programs_exporter(tmp_path: Path, server: ModelServer) -> None:
    early = """
import spanrelay

@spanrelay.sanitizer
def hidden(field):
    return {**field.value, "value": "hidden"} if field.name == "attribute" else field.value

spanrelay.use(hidden)
"""
    work = """
provider.get_tracer("app").start_span("work", attributes={"secret": "4711"}).end()
print("GOT", json.dumps([span.attributes["secret"] for span in exporter.get_finished_spans()]))
"""
    ran = run(early + OWN + work, tmp_path, server, **QUIET)
    assert (ran.code, ran.err, got(ran)) == (0, "", ["hidden"])


def test_a_provider_activated_by_hand_and_then_set_has_one_runtime(tmp_path: Path, server: ModelServer) -> None:
    own = OWN.replace(
        "trace.set_tracer_provider(provider)", "import spanrelay\nspanrelay.activate(tracer_provider=provider)"
    )
    for begins in ("", "import openai\n"):
        for launched in (True, False):
            program = begins + own + "trace.set_tracer_provider(provider)\n" + ASK + SHOW
            ran = run(program, tmp_path, server, launched=launched, **QUIET)
            assert (ran.code, ran.err, got(ran)) == (0, "", [["chat m", "shop"]])


# --- where spans go ----------------------------------------------------------------------------------------

OTLP = """
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
"""


def asked_for(collector: OtlpServer) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.removesuffix("/v1/traces"), **QUIET}


def test_what_the_environment_asks_for_gets_the_spans_too(
    tmp_path: Path, server: ModelServer, collector: OtlpServer
) -> None:
    for begins in ("", "import openai\n"):
        ran = run(begins + OWN + ASK + SHOW, tmp_path, server, **asked_for(collector))
        assert (ran.code, ran.err, got(ran)) == (0, "", [["chat m", "shop"]])
    assert collector.span_names() == ["chat m"] * 2


@pytest.mark.parametrize("order", ["added, then set", "set, then added", "not set"])
@pytest.mark.parametrize("processor", ["Simple", "Batch"])
def test_nothing_goes_twice_to_the_same_collector(
    tmp_path: Path, server: ModelServer, collector: OtlpServer, order: str, processor: str
) -> None:
    add = f"provider.add_span_processor({processor}SpanProcessor(OTLPSpanExporter()))\n"
    set_ = "trace.set_tracer_provider(provider)\n"
    steps = {"added, then set": add + set_, "set, then added": set_ + add, "not set": add}[order]
    made = "trace.get_tracer_provider()" if order == "not set" else "TracerProvider()"
    program = f"{IMPORTS}{OTLP}provider = {made}\n{steps}{ASK}"
    ran = run(program, tmp_path, server, **asked_for(collector))
    assert (ran.code, ran.err) == (0, "")
    assert collector.span_names() == ["chat m"]


@pytest.mark.parametrize("other", ["endpoint=URL + '/other'", "headers={'x-project': 'b'}"])
def test_another_path_or_project_of_a_collector_is_another_place(
    tmp_path: Path, server: ModelServer, collector: OtlpServer, other: str
) -> None:
    settings = {**asked_for(collector), "SPANRELAY_METRICS": "false"}
    program = f"{IMPORTS}{OTLP}URL = {settings['OTEL_EXPORTER_OTLP_ENDPOINT']!r}\nprovider = TracerProvider()\n"
    program += f"provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter({other})))\n"
    ran = run(program + "trace.set_tracer_provider(provider)\n" + ASK, tmp_path, server, **settings)
    assert (ran.code, ran.err) == (0, "")
    assert sorted(set(collector.asked)) == (["/other", "/v1/traces"] if "/other" in other else ["/v1/traces"])
    assert len(collector.accepted) == 2


# --- providers of vendors ----------------------------------------------------------------------------------

NOT_OF_THE_SDK = """
from opentelemetry import trace

class Vendor(trace.TracerProvider):
    def get_tracer(self, *args, **kwargs):
        return trace.NoOpTracer()

trace.set_tracer_provider(Vendor())
"""


def test_a_provider_that_is_not_the_sdks_leaves_everything_as_it_was(tmp_path: Path, server: ModelServer) -> None:
    ran = run(NOT_OF_THE_SDK + ASK, tmp_path, server, **QUIET)
    assert ran.said == ["hello", "You said: hello"]
    first, second = ran.err.splitlines()
    assert first.startswith("spanrelay: the program's tracer provider 'Vendor' is not built on OpenTelemetry's SDK")
    assert second == "Overriding of current TracerProvider is not allowed"


WRAPPED = (
    IMPORTS
    + """
class Wrapping(trace.TracerProvider):
    def __init__(self):
        self.provider = trace.NoOpTracerProvider()

    def set_provider(self, provider):
        self.provider = provider

    def get_tracer(self, *args, **kwargs):
        return self.provider.get_tracer(*args, **kwargs)

    def shutdown(self):
        self.provider.shutdown()

wrapping = Wrapping()
exporter = InMemorySpanExporter()

def configure():
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    if isinstance(wrapping.provider, TracerProvider):
        wrapping.shutdown()
    wrapping.set_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

configure()
trace.set_tracer_provider(wrapping)
"""
)


@pytest.mark.parametrize(
    ("program", "launched"),
    [
        (WRAPPED + ASK, True),
        ("import openai\n" + WRAPPED + ASK, True),
        (ACTIVATE + WRAPPED + ASK, False),
        (WRAPPED + ACTIVATE + ASK, False),
    ],
)
def test_a_provider_that_hands_on_to_the_sdks_is_taken(
    tmp_path: Path, server: ModelServer, program: str, launched: bool
) -> None:
    ran = run(program + SHOW, tmp_path, server, launched=launched, **QUIET)
    assert (ran.code, ran.err, got(ran)) == (0, "", [["chat m", "shop"]])
    assert ran.said == ["hello", "You said: hello"]


def test_one_that_hands_on_to_another_later_is_followed(tmp_path: Path, server: ModelServer) -> None:
    again = "exporter = InMemorySpanExporter()\nconfigure()\n"
    for program in (WRAPPED + ASK + again + ASK, WRAPPED + again + ASK + again + ASK):
        ran = run(program + SHOW, tmp_path, server, **QUIET)
        assert (ran.code, ran.err, got(ran)) == (0, "", [["chat m", "shop"]])
    assert len(ran.trajectories) == 4


REPLACES = (
    IMPORTS
    + """
class Default(SimpleSpanProcessor):
    def on_end(self, span):
        assert not self.ended
        super().on_end(span)

    ended = False

    def shutdown(self):
        self.ended = True

class Replacing(TracerProvider):
    def __init__(self):
        super().__init__(resource=Resource.create({"service.name": "shop"}))
        self.default = Default(InMemorySpanExporter())
        super().add_span_processor(self.default)

    def add_span_processor(self, processor):
        multi = self._active_span_processor
        multi._span_processors = tuple(each for each in multi._span_processors if each is not self.default)
        self.default.shutdown()
        super().add_span_processor(processor)

provider = Replacing()
trace.set_tracer_provider(provider)
"""
)


@pytest.mark.parametrize("launched", [True, False])
def test_a_provider_may_take_processors_out_as_well(tmp_path: Path, server: ModelServer, launched: bool) -> None:
    program = REPLACES + ACTIVATE + "exporter = InMemorySpanExporter()\n"
    program += "provider.add_span_processor(SimpleSpanProcessor(exporter))\n"
    ran = run(program + ASK + SHOW, tmp_path, server, launched=launched, **QUIET)
    assert (ran.code, ran.err, got(ran)) == (0, "", [["chat m", "shop"]])


# --- metrics and logs --------------------------------------------------------------------------------------

METRICS = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
"""
SET_METRICS = """
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader], resource=Resource.create({"service.name": "shop"})))
"""
SHOW_METRICS = """
from opentelemetry import trace
import spanrelay
spanrelay.activate().flush()
data = reader.get_metrics_data()
assert {resource.resource.attributes["service.name"] for resource in data.resource_metrics} == {"shop"}
scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
print("GOT", json.dumps(sorted(metric.name for scope in scopes for metric in scope.metrics)))
"""
OF_A_CALL = ["gen_ai.client.operation.duration", "gen_ai.client.token.usage"]


@pytest.mark.parametrize(
    ("begins", "launched"), [("", True), ("import openai\n", True), (ACTIVATE, True), (ACTIVATE, False)]
)
@pytest.mark.parametrize("exported", [True, False])
def test_the_programs_reader_gets_the_metrics_of_calls_and_of_instruments_made_before(
    tmp_path: Path, server: ModelServer, collector: OtlpServer, begins: str, launched: bool, exported: bool
) -> None:
    early = (
        METRICS
        + """
meter = metrics.get_meter("early")
counter = meter.create_counter("counted")
meter.create_observable_gauge("observed", [lambda options: [metrics.Observation(1)]])
counter.add(1)
"""
    )
    settings = asked_for(collector) if exported else QUIET
    program = begins + early + IMPORTS + SET_METRICS + "counter.add(1)\n" + ASK + SHOW_METRICS
    ran = run(program, tmp_path, server, launched=launched, **settings)
    assert (ran.code, ran.err) == (0, "")
    wanted = ["counted", *OF_A_CALL, "observed"]
    assert [name for name in got(ran) if not name.startswith("otel.")] == wanted
    if exported:
        assert collector.sums() == [2]  # both are in what the environment's exporter sends at the end


LOGS = """
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
early = _logs.get_logger("early")
"""
SET_LOGS = """
logged = InMemoryLogRecordExporter()
provider = LoggerProvider(resource=Resource.create({"service.name": "shop"}))
provider.add_log_record_processor(SimpleLogRecordProcessor(logged))
_logs.set_logger_provider(provider)
early.emit(_logs.LogRecord(body="with sk-proj-abcdefghijklmnopqrstuvwxyz"))
_logs.get_logger("late").emit(_logs.LogRecord(body="two"))
bodies = [(each.log_record.body, each.resource.attributes["service.name"]) for each in logged.get_finished_logs()]
print("GOT", json.dumps(bodies))
"""


@pytest.mark.parametrize("exporter", ["otlp", "none"])
def test_the_programs_log_exporter_gets_what_is_logged_masked(
    tmp_path: Path, collector: OtlpServer, exporter: str
) -> None:
    ran = run(LOGS + IMPORTS + SET_LOGS, tmp_path, OTEL_LOGS_EXPORTER=exporter, **asked_for(collector))
    assert (ran.code, ran.err) == (0, "")
    (first, service), second = got(ran)
    assert first.startswith("with ") and "abcdef" not in first
    assert (service, second) == ("shop", ["two", "shop"])
    assert collector.asked.count("/v1/logs") == (exporter == "otlp")


def test_a_provider_that_is_not_of_the_sdk_is_given_spans_and_is_told_of(tmp_path: Path, server: ModelServer) -> None:
    program = f"""
from opentelemetry import trace

class Tracer(trace.NoOpTracer):
    def start_span(self, name, *args, **kwargs):
        print(name)
        return super().start_span(name, *args, **kwargs)

class Other(trace.TracerProvider):
    def get_tracer(self, *args, **kwargs):
        return Tracer()

trace.set_tracer_provider(Other())
import spanrelay
spanrelay.activate()
{ASK}
"""
    ran = run(program, tmp_path, server, launched=False)
    told = "it is given the spans of calls, and no trajectories are written"
    assert ran.err == f"spanrelay: the tracer provider 'Other' is not the SDK's; {told}\n"
    assert (ran.out.splitlines()[0], ran.trajectories) == ("chat m", [])


@pytest.mark.parametrize("exported", [True, False])
def test_meters_and_loggers_that_the_program_has_before_activation_stay_with_what_the_environment_asks_for_behind(
    tmp_path: Path, collector: OtlpServer, exported: bool
) -> None:
    settings = {"OTEL_LOGS_EXPORTER": "otlp", **asked_for(collector)} if exported else QUIET
    count = 'metrics.get_meter("early").create_counter("counted").add(1)\n'
    program = METRICS + LOGS + IMPORTS + SET_METRICS + SET_LOGS.partition("bodies")[0] + ACTIVATE + count + SHOW_METRICS
    ran = run(program, tmp_path, launched=False, **settings)
    assert (ran.code, ran.err) == (0, "")
    assert [name for name in got(ran) if not name.startswith("otel.")] == ["counted"]
    assert ("/v1/metrics" in collector.asked) is exported
