"""The two ways in: a writer fed as spans start and end, and a SpanExporter behind any pipeline."""

from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.util._importlib_metadata import entry_points
from tests.trajectory.golden import written
from tests.trajectory.program import Program, calls, outline, read, results, says, system, user

from spanrelay.assembly.exporter import AtifSpanExporter

LLM = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hi"}]}]',
    "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"ho"}]}]',
}


def told(program: Program) -> None:
    """An agent with a model call, a tool and another model call."""
    root = program.agent(session_id="s")
    wanted = calls(("c1", "weather", {"city": "SF"}))
    program.ask(root, [system("be kind"), user("weather?")], wanted)
    program.use(root, "weather", {"city": "SF"}, "sun", "c1")
    program.end(root)


def test_it_is_found_by_its_name_and_needs_no_arguments() -> None:
    (found,) = entry_points(group="opentelemetry_traces_exporter", name="atif")
    exporter = found.load()()
    assert isinstance(exporter, SpanExporter)
    exporter.shutdown()


def test_it_works_behind_a_batch_processor(tmp_path: Path) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(AtifSpanExporter(tmp_path)))
    tracer = provider.get_tracer("any")
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("chat", attributes=LLM):
        pass
    provider.shutdown()
    (document,) = read(tmp_path).values()
    assert outline(document) == ["user: hi", "agent: ho"]


def test_a_span_that_comes_twice_counts_once(tmp_path: Path) -> None:
    program = Program(tmp_path / "live")
    told(program)
    exporter = AtifSpanExporter(tmp_path / "exported")
    spans = [written(record, "genai") for record in program.ended]
    exporter.export(spans)
    exporter.export(spans)
    exporter.shutdown()
    assert [outline(d) for d in read(tmp_path / "exported").values()] == [
        outline(d) for d in program.documents().values()
    ]


def test_a_late_span_of_a_known_trace_is_added(tmp_path: Path) -> None:
    program = Program(tmp_path / "live")
    told(program)
    spans = {record.kind: written(record, "genai") for record in program.ended}
    exporter = AtifSpanExporter(tmp_path / "exported")
    exporter.export([spans["llm"], spans["agent"]])
    exporter.export([spans["tool"]])
    exporter.shutdown()
    (document,) = read(tmp_path / "exported").values()
    assert results(document["steps"][2]) == [("c1", "sun")]
    program.documents()


def test_a_trace_whose_root_does_not_come_is_written_on_flush(tmp_path: Path) -> None:
    program = Program(tmp_path / "live")
    told(program)
    exporter = AtifSpanExporter(tmp_path / "exported")
    exporter.export([written(record, "genai") for record in program.ended[:-1]])
    assert read(tmp_path / "exported") == {}
    assert exporter.force_flush()
    (document,) = read(tmp_path / "exported").values()
    assert len(document["steps"]) == 3
    exporter.shutdown()
    program.documents()


def test_what_it_cannot_read_is_no_failure_of_the_application(tmp_path: Path) -> None:
    exporter = AtifSpanExporter(tmp_path)
    assert exporter.export([]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    exporter.shutdown()


def test_idle_renders_and_then_leaves_the_disk_in_peace(tmp_path: Path) -> None:
    program = Program(tmp_path)
    root = program.agent(session_id="s")
    program.ask(root, [user("one")], says("two"))
    program.writer.idle()
    assert outline(read(tmp_path)["s"])[-1] == "agent: two"
    program.writer._rest_until = float("inf")
    program.ask(root, [user("one"), says("two"), user("three")], says("four"))
    program.writer.idle()
    assert outline(read(tmp_path)["s"])[-1] == "agent: two"
    program.end(root)
    program.documents()


def test_files_are_called_as_the_pattern_says(tmp_path: Path) -> None:
    program = Program(tmp_path, name="{agent}-{service}-{session}")
    for session in ("s", "s/2", None):
        root = program.agent("bot", session_id=session, service_name="shop")
        program.ask(root, [user(f"weather in {session}?")], says("sun"))
        program.end(root)
    assert sorted(name[:12] for name in program.documents()) == ["bot-shop-000", "bot-shop-s", "bot-shop-s_2"]


def test_a_pattern_without_fields_names_the_first_file_and_numbers_the_others(tmp_path: Path) -> None:
    program = Program(tmp_path, name="trajectory")
    for session in ("a", "b"):
        root = program.agent("bot", session_id=session)
        program.ask(root, [user("weather?")], says("sun"))
        program.end(root)
    assert sorted(program.documents()) == ["trajectory", "trajectory-2"]
