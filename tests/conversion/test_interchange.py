"""Trajectories become spans of either dialect, and these become the same trajectories.

What does not come back is in `LOST`, a row for each document and field; a row that is no longer true fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conversion.captures import converted
from tests.conversion.test_polyglot import CAPTURES, capture
from tests.shared_data import SHARED, needs_shared

from spanrelay.assembly.atif import Trajectory, family
from spanrelay.cli import main
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder
from spanrelay.evaluation.comparison import Comparison, compare

GOLDEN = sorted((SHARED / "trajectories").glob("*.json")) if SHARED else []
DIALECTS = ("genai", "openinference")
WAYS = (*DIALECTS, "atif")
"""Through spans that were written to a file, and at once."""

_TOTALS = "totals of what another document holds, which is not here"
_TOKENS = "no dialect has a name for the ids and probabilities of tokens"
_UNNAMED = "the result names no call; it is that of the last call of its step then"
_COPIED = "a step that was copied is only what a request repeats, which says neither who copied it nor the model"

LOST: dict[tuple[str, str], str] = {
    ("*", "head.schema_version"): "we write 1.7",
    ("*", "head.final_metrics.total_steps"): "we always say it",
    ("*", "step.llm_call_count"): "we say it of every step of an agent; before 1.7 there was none",
    ("*", "head.agent.model_name"): "we name the model that answered, by the name that its steps have",
    ("*", "step.metrics.prompt_token_ids"): _TOKENS,
    ("*", "step.metrics.completion_token_ids"): _TOKENS,
    ("*", "step.metrics.logprobs"): _TOKENS,
    ("harbor_terminus2_summarization", "head.final_metrics.total_prompt_tokens"): _TOTALS,
    ("harbor_terminus2_summarization", "head.final_metrics.total_completion_tokens"): _TOTALS,
    ("harbor_terminus2_summarization", "head.final_metrics.total_cached_tokens"): _TOTALS,
    ("harbor_terminus2_summarization", "head.final_metrics.total_cost_usd"): _TOTALS,
    ("harbor_terminus2_summarization", "step.results"): _UNNAMED,
    ("harbor_terminus2_summarization", "step.tool_calls[0].results"): _UNNAMED,
    ("harbor_terminus2_sub_answers", "step.results"): _UNNAMED,
    ("harbor_terminus2_sub_answers", "step.tool_calls[0].results"): _UNNAMED,
    ("harbor_terminus2_sub_answers", "step.is_copied_context"): _COPIED,
    ("harbor_terminus2_sub_answers", "step.model_name"): _COPIED,
    ("harbor_terminus2_sub_answers", "head.notes"): "we note what was copied",
    ("harbor_terminus2_sub_summary", "step.results"): _UNNAMED,
    ("harbor_terminus2_sub_summary", "step.tool_calls[0].results"): _UNNAMED,
    ("harbor_terminus2_sub_summary", "step.is_copied_context"): _COPIED,
    ("harbor_terminus2_sub_summary", "step.model_name"): _COPIED,
    ("harbor_terminus2_sub_summary", "head.notes"): "we note what was copied",
    ("v17_embedded_subagents", "step"): "what was asked is known from the first request, which came after the tool ran",
    ("v17_embedded_subagents", "step.results"): "what a compaction left has no place in a conversation",
    ("v17_embedded_subagents", "step.model_name"): "we name the model of every step",
    ("v17_embedded_subagents", "head.notes"): "we note tools that no model asked for",
    ("v17_embedded_subagents", "head.final_metrics.total_prompt_tokens"): "our totals include the sub-agents'",
    ("v17_embedded_subagents", "head.final_metrics.total_completion_tokens"): "our totals include the sub-agents'",
}  # fmt: skip

SOURCES = [*map(capture, CAPTURES), *sorted((SHARED / "spans").glob("*.json"))] if SHARED else []
BESIDE = ("openinference_openai", "otel_genai_openai", "traceloop_openai")
"""Recordings in which conversations run beside the main one; an agent of its own each, nobody notes that any more."""


def back(source: Path, way: str, folder: Path) -> Trajectory:
    """Return what becomes of a document by way of spans, or at once."""
    sources = [source]
    if way != "atif":
        summary = work.convert([source], Folder(folder / "spans"), form=way)
        assert summary.findings == []
        sources = sorted((folder / "spans").glob("*.jsonl"))
    (document,), summary = converted(sources, folder / "back")
    assert summary.findings == []
    return Trajectory.from_json(document)


def differing(found: Comparison) -> Iterator[str]:
    """Yield which fields differ, those of any step by the same name."""
    yield from (f"head.{each.path}" for each in found.head)
    for step in found.steps:
        if step.left is None or step.right is None:
            yield "step"
            continue
        yield from (f"step.{each.path}" for each in step.fields)
        for child in step.children:
            yield from differing(child)
    assert found.unplaced == []


def lost_of(path: Path, way: str, folder: Path) -> set[tuple[str, str]]:
    """Return the rows that a document needs."""
    whole = Trajectory.from_json(json.loads(path.read_bytes()))
    fields = set(differing(compare(whole, back(path, way, folder))))
    return {("*" if ("*", field) in LOST else path.stem, field) for field in fields}


@needs_shared
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_document_of_others_comes_back_but_for_what_is_said_to_be_lost(path: Path, way: str, tmp_path: Path) -> None:
    assert lost_of(path, way, tmp_path) <= LOST.keys()


@needs_shared
@pytest.mark.parametrize("way", WAYS)
def test_what_is_said_to_be_lost_is_lost(way: str, tmp_path: Path) -> None:
    found = {row for path in GOLDEN for row in lost_of(path, way, tmp_path / path.stem)}
    kept = {row for row, why in LOST.items() if way == "atif" and why == _TOKENS}
    assert found == LOST.keys() - kept


@needs_shared
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_trajectory_of_ours_comes_back_equal(source: Path, way: str, tmp_path: Path) -> None:
    documents, _ = converted([source], tmp_path / "ours")
    lost = ["head.notes"] if source.stem in BESIDE else []
    for path in (tmp_path / "ours").glob("*.json"):
        ours = Trajectory.from_json(json.loads(path.read_bytes()))
        assert list(differing(compare(ours, back(path, way, tmp_path / path.stem)))) == lost
    assert documents


@needs_shared
@pytest.mark.parametrize("way", WAYS)
def test_a_sub_agent_comes_back_beneath_the_tool_that_began_it(way: str, tmp_path: Path) -> None:
    path = next(path for path in GOLDEN if path.stem == "v17_embedded_subagents")
    (before,) = list(family(Trajectory.from_json(json.loads(path.read_bytes()))))[1:]
    after = back(path, way, tmp_path)
    (child,) = after.subagent_trajectories or []
    refs = [
        (result.source_call_id, ref.trajectory_id)
        for step in after.steps
        for result in (step.observation.results if step.observation else [])
        for ref in result.subagent_trajectory_ref or []
    ]
    assert refs == [("call_delegate", child.trajectory_id)]
    assert set(differing(compare(before, child))) == {"step.model_name", "step.is_copied_context"}


# ── documents of our own making


def agent(step: int, message: str, **more: Any) -> dict[str, Any]:
    return {"step_id": step, "source": "agent", "message": message, "llm_call_count": 1, **more}


def document(steps: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    named = {
        "session_id": "s-1",
        "trajectory_id": "t-1",
        "agent": {"name": "helper", "version": "2", "model_name": "m"},
    }
    return {"schema_version": "ATIF-v1.7", **named, "steps": steps, **more}


ASK = {"step_id": 1, "source": "user", "message": "How warm?", "timestamp": "2026-01-01T00:00:00Z"}
CALL = {"tool_call_id": "c-1", "function_name": "look", "arguments": {"at": "sky"}}
SEEN = {"results": [{"source_call_id": "c-1", "content": "blue", "extra": {"duration_sec": 2.0}}]}
TALK = [
    ASK,
    agent(2, "Let me see.", reasoning_content="A look.", tool_calls=[CALL], observation=SEEN,
          timestamp="2026-01-01T00:00:01.5Z", metrics={"prompt_tokens": 5, "completion_tokens": 2, "cost_usd": 0.5},
          extra={"duration_sec": 0.25}),
    agent(3, "Warm.", reasoning_effort="low"),
]  # fmt: skip
START = 1767225600 * 10**9


def put(folder: Path, value: Any, name: str = "doc.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))
    return folder / name


def spans_of(sources: list[Path], folder: Path, dialect: str = "genai") -> list[dict[str, Any]]:
    """Return the spans that documents become, in the order of their starts, with their attributes as values."""
    assert work.convert(sources, Folder(folder), form=dialect).findings == []
    lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    found = [
        span for line in lines for held in line["resourceSpans"] for scope in held["scopeSpans"]
        for span in scope["spans"]
    ]  # fmt: skip
    for span in found:
        span["attributes"] = {pair["key"]: next(iter(pair["value"].values())) for pair in span["attributes"]}
    return sorted(found, key=lambda span: int(span["startTimeUnixNano"]))


def texts(messages: str) -> list[tuple[str, str]]:
    def words(part: dict[str, Any]) -> str:
        return str(part.get("content") or part.get("response") or part.get("name"))

    return [(message["role"], " ".join(map(words, message["parts"]))) for message in json.loads(messages)]


def test_each_model_call_is_a_span_with_all_that_was_said_before(tmp_path: Path) -> None:
    whole, first, tool, second = spans_of([put(tmp_path, document(TALK))], tmp_path / "out")
    assert [span["name"] for span in (whole, first, tool, second)] == [
        "invoke_agent helper", "chat m", "execute_tool look", "chat m",
    ]  # fmt: skip
    assert {span["parentSpanId"] for span in (first, tool, second)} == {whole["spanId"]}
    assert texts(first["attributes"]["gen_ai.input.messages"]) == [("user", "How warm?")]
    assert texts(second["attributes"]["gen_ai.input.messages"]) == [
        ("user", "How warm?"), ("assistant", "A look. Let me see. look"), ("tool", "blue"),
    ]  # fmt: skip
    assert texts(second["attributes"]["gen_ai.output.messages"]) == [("assistant", "Warm.")]
    assert tool["attributes"]["gen_ai.tool.call.result"] == "blue"
    assert json.loads(tool["attributes"]["gen_ai.tool.call.arguments"]) == {"at": "sky"}
    assert first["attributes"]["gen_ai.usage.input_tokens"] == "5"
    assert {span["attributes"]["session.id"] for span in (whole, first, tool, second)} == {"s-1"}


def test_times_are_those_of_the_steps_and_else_made_up_in_their_order_and_marked(tmp_path: Path) -> None:
    whole, first, tool, second = spans_of([put(tmp_path, document(TALK))], tmp_path / "out")
    begun = START + 1_500_000_000
    assert [int(first["startTimeUnixNano"]), int(first["endTimeUnixNano"])] == [begun, begun + 250_000_000]
    assert int(tool["endTimeUnixNano"]) - int(tool["startTimeUnixNano"]) == 2_000_000_000
    assert int(whole["startTimeUnixNano"]) == START
    assert int(second["startTimeUnixNano"]) > int(tool["endTimeUnixNano"])
    assert int(whole["endTimeUnixNano"]) >= int(second["endTimeUnixNano"])
    assert [span["attributes"]["spanrelay.told_by"] for span in (whole, first, tool, second)] == [
        "atif", "atif", "atif", "atif, times made up",
    ]  # fmt: skip


def test_the_same_document_has_the_same_spans_wherever_it_lies(tmp_path: Path) -> None:
    one = spans_of([put(tmp_path / "a", document(TALK))], tmp_path / "one")
    other = spans_of([put(tmp_path / "b", document(TALK), "other.json")], tmp_path / "other")
    assert one == other
    changed = document(TALK) | {"trajectory_id": "t-2"}
    assert {span["traceId"] for span in spans_of([put(tmp_path / "c", changed)], tmp_path / "changed")} != {
        span["traceId"] for span in one
    }


@pytest.mark.parametrize("way", WAYS)
def test_failures_refusals_and_answers_of_nobody_come_back(way: str, tmp_path: Path) -> None:
    failed = {"results": [{"source_call_id": "c-1", "content": "no sky", "extra": {"is_error": True}}]}
    steps = [
        ASK,
        agent(2, "", extra={"error": {"type": "RateLimit", "message": "later", "status_code": 429}}),
        agent(3, "", tool_calls=[CALL], observation=failed),
        agent(4, "From the cache.", llm_call_count=0, extra={"answered_by": "cache"}),
        agent(5, "", tool_calls=[{**CALL, "tool_call_id": "c-2", "extra": {"refused": "by rule"}}]),
        agent(6, "", extra={"incomplete": "cancelled"}),
    ]
    whole = Trajectory.from_json(document(steps, extra={"user": "u-1", "metadata": {"team": "blue"}}))
    found = back(put(tmp_path, whole.to_json()), way, tmp_path)
    told = [step.extra or {} for step in found.steps]
    assert told[1]["error"] == {"type": "RateLimit", "message": "later", "status_code": 429}
    assert found.steps[2].observation is not None
    assert (found.steps[2].observation.results[0].extra or {})["is_error"] is True
    assert (found.steps[3].llm_call_count, told[3]["answered_by"]) == (0, "cache")
    assert ((found.steps[4].tool_calls or [])[0].extra or {})["refused"] == "by rule"
    assert told[5]["incomplete"] == "cancelled"
    assert (found.extra or {})["user"] == "u-1"
    assert (found.extra or {})["metadata"] == {"team": "blue"}
    messages = [(step.source, step.message) for step in found.steps]
    assert messages == [(step.source, step.message) for step in whole.steps]


@pytest.mark.parametrize("way", WAYS)
def test_what_was_asked_is_told_where_no_model_was_called(way: str, tmp_path: Path) -> None:
    by_itself = agent(2, "", llm_call_count=0, tool_calls=[CALL], observation=SEEN)
    found = back(put(tmp_path, document([ASK, by_itself])), way, tmp_path)
    assert [(step.source, step.message) for step in found.steps] == [("user", "How warm?"), ("agent", "")]


@pytest.mark.parametrize("way", WAYS)
def test_a_tool_that_an_answer_of_nobody_asked_for_is_asked_for_again(way: str, tmp_path: Path) -> None:
    answered = agent(2, "", llm_call_count=0, tool_calls=[CALL], observation=SEEN, extra={"answered_by": "cache"})
    found = back(put(tmp_path, document([ASK, answered, agent(3, "Warm.")])), way, tmp_path)
    assert [step.message for step in found.steps] == ["How warm?", "", "Warm."]
    step = found.steps[1]
    assert (step.llm_call_count, (step.extra or {})["answered_by"]) == (0, "cache")
    assert [call.function_name for call in step.tool_calls or []] == [CALL["function_name"]]


def child_of(reference: dict[str, Any]) -> dict[str, Any]:
    result = {"source_call_id": "c-1", "content": "done", "subagent_trajectory_ref": [reference]}
    return document([ASK, agent(2, "", tool_calls=[CALL], observation={"results": [result]}), agent(3, "Done.")])


def test_a_sub_agent_in_a_file_of_its_own_stands_beneath_the_call_that_refers_to_it(tmp_path: Path) -> None:
    child = document([{**ASK, "message": "Look."}, agent(2, "Blue.")]) | {"session_id": "s-2", "trajectory_id": "t-2"}
    sources = [put(tmp_path, child, "a.json"), put(tmp_path, child_of({"session_id": "s-2"}), "b.json")]
    spans = {span["spanId"]: span for span in spans_of(sources, tmp_path / "out")}
    agents = [span for span in spans.values() if span["name"] == "invoke_agent helper"]
    (inner,) = (span for span in agents if "parentSpanId" in span)
    assert spans[inner["parentSpanId"]]["name"] == "execute_tool look"
    (found,), _ = converted(sources, tmp_path / "back")
    assert [each["steps"][-1]["message"] for each in (found, *found["subagent_trajectories"])] == ["Done.", "Blue."]


def test_documents_that_refer_to_each_other_are_each_told_once(tmp_path: Path) -> None:
    one, other = child_of({"session_id": "s-2"}), child_of({"session_id": "s-1"})
    other |= {"session_id": "s-2", "trajectory_id": "t-2"}
    spans = spans_of([put(tmp_path, [one, other])], tmp_path / "out")
    assert sorted(span["name"] for span in spans).count("invoke_agent helper") == 2


def test_several_documents_of_one_file_are_sessions_of_their_own(tmp_path: Path) -> None:
    other = document(TALK) | {"session_id": "s-2", "trajectory_id": "t-2"}
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (document(TALK), other)))
    documents, _ = converted([tmp_path / "all.jsonl"], tmp_path / "back")
    assert sorted(each["session_id"] for each in documents) == ["s-1", "s-2"]


def test_documents_that_several_processes_left_of_one_session_are_put_together(tmp_path: Path) -> None:
    later = [ASK | {"message": "And now?", "timestamp": "2026-01-01T00:01:00Z"}, agent(2, "Cold.")]
    one = put(tmp_path / "runs", document(TALK), "s-1.json")
    other = put(tmp_path / "runs", document(later, trajectory_id="t-2"), "s-1-2.json")
    for sources in ([one, other], [other, one]):
        (joined,), _ = converted(sources, tmp_path / "joined")
        told = [(step["source"], step["message"]) for step in joined["steps"]]
        assert told[0] == ("user", "How warm?") and told[-2:] == [("user", "And now?"), ("agent", "Cold.")]
        assert [step["step_id"] for step in joined["steps"]] == list(range(1, len(told) + 1))


def test_what_breaks_the_schema_is_a_finding_and_the_rest_is_read(tmp_path: Path) -> None:
    broken = document([{"step_id": 1, "source": "nobody", "message": "?"}])
    documents, summary = converted([put(tmp_path, [broken, document(TALK)])], tmp_path / "back")
    assert len(documents) == 1
    (finding,) = summary.findings
    assert "$.steps[0].source" in finding.fault


def test_a_document_is_not_told_beside_the_telemetry_of_its_session(tmp_path: Path) -> None:
    source = put(tmp_path, document(TALK))
    assert work.convert([source], Folder(tmp_path / "spans"), form="genai").findings == []
    spans = tmp_path / "spans" / "s-1.jsonl"
    alone, _ = converted([spans], tmp_path / "alone")
    assert converted([spans, source], tmp_path / "both")[0] == alone


def image(path: str) -> dict[str, Any]:
    part = {"type": "image", "source": {"media_type": "image/png", "path": path}}
    return document([{**ASK, "message": [{"type": "text", "text": "What?"}, part]}, agent(2, "A dot.")])


def test_an_image_beside_its_document_goes_along(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "dot.png").write_bytes(b"\x89PNG dot")
    found = back(put(tmp_path, image("images/dot.png")), "openinference", tmp_path)
    _, part = found.steps[0].message
    assert not isinstance(part, str)
    assert part.source is not None
    assert (tmp_path / "back" / part.source.path).read_bytes() == b"\x89PNG dot"


def test_no_file_outside_of_the_folder_of_a_document_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    for path in ("../secret.png", str(tmp_path / "secret.png")):
        source = put(tmp_path / "docs", image(path))
        spans = spans_of([source], tmp_path / "out" / str(len(path)))
        assert "c2VjcmV0" not in json.dumps(spans)
        assert path in json.dumps(spans)


def test_what_was_written_into_a_folder_of_sources_is_no_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, document(TALK))
    for _ in range(2):
        assert main(["convert", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
        assert capsys.readouterr().out.startswith("1 line of transcripts or trajectories read: 1 trajectory ")
