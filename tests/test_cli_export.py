"""`spanrelay export` writes what trainers read, leaves out what nobody should train on, and says what and why."""

import base64
import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.shared_data import SHARED, needs_shared
from tests.test_cli import agent_step, document, shown
from tests.training_readers import needs_training_readers, read
from tests.trajectory import harbor
from tests.trajectory.harbor import needs_harbor

from spanrelay.assembly.atif import Trajectory
from spanrelay.cli import main
from spanrelay.evaluation.conversations import Conversation, conversations
from spanrelay.evaluation.export import FORMATS, Export, Wish

TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": {}}}


def run_of(*steps: dict[str, Any], **head: Any) -> dict[str, Any]:
    """A document of these steps, numbered."""
    numbered = [{**step, "step_id": number} for number, step in enumerate(steps, 1)]
    about = {"schema_version": "ATIF-v1.7", "session_id": "s", "trajectory_id": "t"}
    return {**about, "agent": {"name": "demo", "version": "1", "model_name": "m"}, "steps": numbered, **head}


def says(words: Any, source: str = "user", **fields: Any) -> dict[str, Any]:
    return {"source": source, "message": words, **fields}


def answer(words: str, *calls: tuple[str, dict[str, Any], Any], **fields: Any) -> dict[str, Any]:
    """A model's answer, with its calls: name, arguments and result; one whose result is None has none."""
    step = agent_step(0, message=words, **fields)
    if calls:
        step["tool_calls"] = [
            {"tool_call_id": f"c{at}", "function_name": name, "arguments": arguments}
            for at, (name, arguments, _) in enumerate(calls)
        ]
        results = [(f"c{at}", result) for at, (*_, result) in enumerate(calls) if result is not None]
        step["observation"] = {"results": [{"source_call_id": name, "content": text} for name, text in results]}
    return step


def weather() -> dict[str, Any]:
    """A run with a system prompt, reasoning, two calls at once and a final answer."""
    wanted = [("get_weather", {"city": "Oslo"}, "rain"), ("get_weather", {"city": "Rom"}, "sun")]
    told = run_of(
        says("Be brief.", "system"),
        says("Weather?"),
        answer("Looking.", *wanted, reasoning_content="Two cities.", metrics={"prompt_tokens": 50}),
        answer("Rain, sun.", metrics={"prompt_tokens": 90, "completion_tokens": 10}),
    )
    told["agent"]["tool_definitions"] = [TOOL, {"type": "web_search"}]
    return told


class Exported(Export):
    """What was exported, with the rows."""

    found: list[dict[str, Any]]


def exported(told: dict[str, Any], form: str, path: Path = Path("run.json"), **wish: Any) -> Exported:
    export = Exported(Wish(form, **wish), lambda given: given)
    export.found = [json.loads(line) for line in export.lines(told, path)]
    return export


def test_openai_messages_are_the_conversation_and_nothing_else() -> None:
    [row] = exported(weather(), "openai-messages").found
    calls = [
        {"id": f"c{at}", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
        for at, arguments in enumerate(('{"city":"Oslo"}', '{"city":"Rom"}'))
    ]
    assert row == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "Looking.", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c0", "content": "rain"},
            {"role": "tool", "tool_call_id": "c1", "content": "sun"},
            {"role": "assistant", "content": "Rain, sun."},
        ],
        "tools": [TOOL],
    }


def test_trl_has_calls_as_objects_reasoning_and_which_conversation_it_is() -> None:
    [row] = exported(weather(), "trl").found
    functions = [{"name": "get_weather", "arguments": {"city": city}} for city in ("Oslo", "Rom")]
    assert row["messages"][2:4] == [
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": [{"type": "function", "function": each} for each in functions],
            "reasoning_content": "Two cities.",
        },
        {"role": "tool", "name": "get_weather", "content": "rain"},
    ]
    assert json.loads(row.pop("tools")) == [TOOL]
    del row["messages"]
    assert row == {"id": "t", "parent_id": "", "session_id": "s", "agent": "demo", "model": "m"}


SHAREGPT = [
    ("system", f"<tools>\n{json.dumps([TOOL], indent=2)}\n</tools>\n\nBe brief."),
    ("human", "Weather?"),
    (
        "gpt",
        "<think>Two cities.</think>\nLooking.\n"
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rom"}}\n</tool_call>',
    ),
    (
        "human",
        '<tool_response>\n{"name":"get_weather","content":"rain"}\n</tool_response>\n'
        '<tool_response>\n{"name":"get_weather","content":"sun"}\n</tool_response>',
    ),
    ("gpt", "Rain, sun."),
]


def test_sharegpt_has_only_roles_that_every_reader_knows_in_turn() -> None:
    [row] = exported(weather(), "sharegpt").found
    assert [(turn["from"], turn["value"]) for turn in row["conversations"]] == SHAREGPT
    assert (row["id"], row["parent_id"]) == ("t", "")


def test_harbor_has_a_row_for_each_answer_with_all_that_led_to_it() -> None:
    first, second = exported(weather(), "harbor").found
    assert [message["role"] for message in second["conversations"]] == [
        "user",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert first["conversations"] == second["conversations"][:3]
    assert second["conversations"][3]["content"] == "rain\nsun"
    assert (first["episode"], second["episode"], second["agent"], second["run_id"]) == (
        "episode-0",
        "episode-1",
        "demo",
        "s",
    )


@pytest.mark.parametrize("form", ["trl", "sharegpt", "harbor"])
def test_reasoning_is_left_out_where_that_is_asked_for(form: str) -> None:
    assert "Two cities." in json.dumps(exported(weather(), form).found)
    assert "Two cities." not in json.dumps(exported(weather(), form, reasoning=False).found)


@pytest.mark.parametrize("form", FORMATS)
def test_a_sub_agent_is_a_row_of_its_own_with_its_parents_name(form: str) -> None:
    told = document() | {"trajectory_id": "root"}
    told["subagent_trajectories"][0]["steps"].insert(0, says("Forecast?") | {"step_id": 1})
    told["subagent_trajectories"][0]["steps"][1]["step_id"] = 2
    found = exported(told, form).found
    child = next(row for row in found if "It will rain." in json.dumps(row))
    assert "Weather?" not in json.dumps(child)
    assert child.get("parent_id", "root") == "root"
    assert [row["agent"] for row in exported(told, "trl", agent="expert").found] == ["expert"]


# ── what a conversation is


def only(told: dict[str, Any]) -> Conversation:
    [found] = conversations(Trajectory.from_json(told))
    return found


def heard(told: Conversation) -> list[Any]:
    return [turn.content for turn in told.turns]


def test_a_call_that_nobody_got_an_answer_to_is_left_out_and_its_retry_is_not() -> None:
    failed = answer("", extra={"error": {"type": "RateLimit", "message": "slow"}})
    assert heard(only(run_of(says("hi"), failed, answer("hello")))) == ["hi", "hello"]
    retried = answer("hello", extra={"retry_of_step": 2})
    assert heard(only(run_of(says("hi"), answer("hm"), retried))) == ["hi", "hello"]


def test_what_no_model_said_is_left_out() -> None:
    began = answer("", ("expert", {}, "begun"), llm_call_count=0)
    assert heard(only(run_of(says("hi"), began, answer("hello")))) == ["hi", "hello"]


def test_a_rewritten_context_begins_another_conversation() -> None:
    compaction = says(
        "Context compacted.",
        "system",
        observation={"results": [{"content": "They greeted."}]},
        extra={"context_management": {"type": "compaction", "boundary": "replace"}},
    )
    told = run_of(says("Be brief.", "system"), says("hi"), answer("hello"), compaction, says("more"), answer("bye"))
    first, second = conversations(Trajectory.from_json(told))
    assert (heard(first), first.name) == (["Be brief.", "hi", "hello"], "t")
    assert (heard(second), second.name) == (["Be brief.", "They greeted.", "more", "bye"], "t#2")
    del compaction["observation"]
    lost = run_of(says("hi"), answer("hello"), compaction, answer("bye"))
    assert exported(lost, "trl").left_out == {"what its first answer answers is not in it": 1}


def test_what_stands_before_a_fork_is_a_row_and_the_rest_is_left_out() -> None:
    fork = answer("other", extra={"forked_after_turns": 1})
    export = exported(run_of(says("hi"), answer("hello"), says("again"), fork, says("x"), answer("y")), "trl")
    assert [[message["content"] for message in row["messages"]] for row in export.found] == [["hi", "hello"]]
    assert export.left_out == {"it goes on from an earlier turn of another": 1}


def test_an_answer_to_what_nobody_recorded_begins_another_conversation_that_is_left_out() -> None:
    export = exported(run_of(says("hi"), answer("hello"), answer("unasked"), says("x"), answer("y")), "harbor")
    assert [row["conversations"][-1]["content"] for row in export.found] == ["hello"]
    assert export.left_out == {"what its first answer answers is not in it": 1}


def test_a_system_prompt_is_whole_where_only_its_change_was_written() -> None:
    first = "word " * 300 + "today is Monday. " + "more " * 300
    second = first.replace("Monday", "Sunday")
    start, middle = first.index("Monday"), "Sunday"
    change = {"start": start, "removed": 6, "inserted": 6}
    told = run_of(
        says(first, "system"),
        says("hi"),
        answer("hello"),
        says(
            f"[system prompt changed at character {start}] {middle}", "system", extra={"system_prompt_change": change}
        ),
        answer("bye"),
        says("[system prompt of step 1 again]", "system", extra={"same_as_step": 1}),
        answer("done"),
    )
    assert [turn.content for turn in only(told).turns if turn.role == "system"] == [first, second, first]


def test_a_later_system_prompt_is_what_a_user_says_to_templates_that_know_one_only() -> None:
    told = run_of(says("a", "system"), says("b", "system"), says("hi"), says("note", "system"), answer("hello"))
    [row] = exported(told, "trl").found
    roles = [(message["role"], message["content"]) for message in row["messages"]]
    assert roles == [("system", "a\n\nb"), ("user", "hi"), ("user", "note"), ("assistant", "hello")]
    assert len(exported(told, "openai-messages").found[0]["messages"]) == 5
    assert [turn["from"] for turn in exported(told, "sharegpt").found[0]["conversations"]] == ["system", "human", "gpt"]


def test_results_that_name_no_call_are_those_of_the_calls_in_order() -> None:
    step = answer("ls", ("sh", {"do": "ls"}, "x"))
    del step["observation"]["results"][0]["source_call_id"]
    [row] = exported(run_of(says("hi"), step, answer("done")), "openai-messages").found
    assert row["messages"][2] == {"role": "tool", "tool_call_id": "c0", "content": "x"}


def test_what_comes_after_the_last_answer_trains_nobody() -> None:
    last = answer("", ("stop", {}, "stopped"))
    assert [turn.role for turn in only(run_of(says("hi"), last, says("thanks"))).turns] == ["user", "assistant"]


def test_arguments_that_were_no_object_are_what_the_model_wrote() -> None:
    step = answer("", ("one", {"raw": "{broken"}, "x"), ("two", {"value": [1]}, "y"))
    for call in step["tool_calls"]:
        call["extra"] = {"arguments_wrapped": True}
    [row] = exported(run_of(says("hi"), step), "openai-messages").found
    assert [call["function"]["arguments"] for call in row["messages"][1]["tool_calls"]] == ["{broken", "[1]"]


# ── what is left out


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (run_of(says("hi")), "no model answers in it"),
        (run_of(says("hi"), answer("old", is_copied_context=True)), "no model answers in it"),
        (run_of(answer("hello")), "what its first answer answers is not in it"),
        (run_of(says("hi"), answer("", extra={"content_captured": False})), "content was not captured"),
        (run_of(says("hi"), answer("x", extra={"truncated": True})), "texts were cut"),
        (run_of(says("hi"), answer("x", extra={"missing_messages": 3})), "messages are missing"),
        (run_of(says("hi"), answer("", ("f", {}, None)), answer("x")), "a call has no result"),
    ],
)
def test_what_nobody_should_train_on_is_left_out_and_said(told: dict[str, Any], why: str) -> None:
    export = exported(told, "trl")
    assert (export.found, export.left_out) == ([], {why: 1})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"extra": {"status": "partial"}}, "it is not whole"),
        ({"extra": {"reward": 0}}, "its reward is 0"),
        ({"last": {"error": {"type": "X"}}}, "its last model call failed"),
        ({"last": {"incomplete": "cancelled"}}, "its last model call failed"),
        ({"last": {"finish_reason": "length"}}, "its last answer was cut or refused"),
        ({"last": {"finish_reason": ["refusal"]}}, "its last answer was cut or refused"),
        ({"call": {"refused": "denied"}}, "policy refused a call"),
    ],
)
def test_only_what_succeeded_is_written_where_that_is_asked_for(change: dict[str, Any], why: str) -> None:
    told = weather() | ({"extra": change["extra"]} if "extra" in change else {})
    told["steps"][3]["extra"] = change.get("last", {})
    told["steps"][2]["tool_calls"][0]["extra"] = change.get("call", {})
    assert len(exported(told, "trl").found) == 1
    export = exported(told, "trl", only_successful=True)
    assert (export.found, export.left_out) == ([], {why: 1})


def test_answers_that_do_not_alternate_have_no_form_in_sharegpt_and_are_text_in_harbors_rows() -> None:
    told = run_of(says("hi"), answer("", ("f", {}, None)), answer("x"))
    assert exported(told, "sharegpt").left_out == {"two answers have nothing between them": 1}
    assert len(exported(told, "harbor").found) == 2


def test_a_run_that_ends_with_a_tool_that_failed_did_not_succeed() -> None:
    told = weather()
    del told["steps"][3]
    told["steps"][2]["observation"]["results"][0]["extra"] = {"is_error": True}
    assert exported(told, "trl", only_successful=True).left_out == {"it ends with a tool that failed": 1}


def test_a_run_that_recovered_from_a_tools_failure_succeeded() -> None:
    told = weather() | {"extra": {"reward": 1}}
    told["steps"][2]["observation"]["results"][0]["extra"] = {"is_error": True}
    assert len(exported(told, "trl", only_successful=True).found) == 1


def test_rows_that_are_too_long_are_left_out_by_what_the_model_counted() -> None:
    assert len(exported(weather(), "trl", max_tokens=100).found) == 1
    export = exported(weather(), "trl", max_tokens=99)
    assert (export.found, export.left_out, export.estimated) == ([], {"it is longer than 99 tokens": 1}, 0)
    assert len(exported(weather(), "harbor", max_tokens=99).found) == 1  # each answer's own length
    uncounted = run_of(says("hi " * 400), answer("hello"))
    export = exported(uncounted, "trl", max_tokens=100)
    assert (export.found, export.estimated) == ([], 1)


def pictured(folder: Path) -> dict[str, Any]:
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(b"picture")
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {"media_type": "image/png", "path": "images/a.png"}},
        {"type": "image", "source": {"media_type": "image/png", "path": "https://example.org/b.png"}},
    ]
    return run_of(says(parts), answer("A cat."))


def test_pictures_of_users_are_in_openai_messages_and_have_no_place_elsewhere(tmp_path: Path) -> None:
    told = pictured(tmp_path)
    [row] = exported(told, "openai-messages", tmp_path / "run.json").found
    data = f"data:image/png;base64,{base64.b64encode(b'picture').decode()}"
    assert [part.get("image_url", {}).get("url") for part in row["messages"][0]["content"]] == [
        None,
        data,
        "https://example.org/b.png",
    ]
    for form in ("trl", "sharegpt", "harbor"):
        assert exported(told, form).left_out == {"it has pictures or sounds, for which the format has no place": 1}
    (tmp_path / "images" / "a.png").unlink()
    [why] = exported(told, "openai-messages", tmp_path / "run.json").left_out
    assert why == "a picture cannot be read: No such file or directory"


def trial(folder: Path, **told: Any) -> Path:
    """A trial of Harbor's with a trajectory; returns that."""
    (folder / "agent").mkdir(parents=True)
    about = {
        "trial_name": "trial-1",
        "task_name": "greet",
        "started_at": "2026-01-01T00:00:00Z",
        "config": {"job_id": "job-1"},
        "agent_info": {"name": "demo", "version": "1", "model_info": {"name": "m", "provider": "acme"}},
    }
    (folder / "result.json").write_text(json.dumps({**about, **told}))
    (path := folder / "agent" / "trajectory.json").write_text(json.dumps(weather()))
    return path


@pytest.mark.parametrize(
    ("told", "result", "why"),
    [
        ({"verifier_result": {"rewards": {"reward": 1}}}, "1.0", None),
        ({"verifier_result": {"rewards": {"reward": 0}}}, "0.0", "its reward is 0.0"),
        (
            {"exception_info": {"exception_type": "AgentTimeoutError"}},
            "AgentTimeoutError",
            "its trial was ended by an exception",
        ),
        ({}, None, None),
    ],
)
def test_the_trial_of_harbor_that_a_file_lies_in_says_its_task_and_whether_it_succeeded(
    tmp_path: Path, told: dict[str, Any], result: str | None, why: str | None
) -> None:
    path = trial(tmp_path / "job" / "trial-1", **told)
    row = exported(weather(), "harbor", path).found[0]
    assert (row["task"], row["trial_name"], row["run_id"], row["result"]) == ("greet", "trial-1", "job-1", result)
    assert row["model_provider"] == "acme"
    assert exported(weather(), "trl", path, only_successful=True).left_out == ({why: 1} if why else {})


# ── the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (place := tmp_path / "runs").mkdir()
    secret = weather()
    secret["steps"][1]["message"] = "my key is sk-abcdefghijklmnopqrstuvwx, hide it"
    (place / "one.json").write_text(json.dumps(secret))
    (place / "two.json").write_text(json.dumps(weather() | {"extra": {"status": "partial"}, "session_id": "s2"}))
    return place


def test_rows_go_into_one_file_that_is_the_owners_and_what_is_left_out_is_summed_up(folder: Path, capsys: Any) -> None:
    out = folder.parent / "deeper" / "train.jsonl"
    status, lines = shown(capsys, "export", folder, "--to", "trl", "-o", out, "--only-successful")
    assert (status, lines) == (
        0,
        [
            f"1 row of 2 trajectories in {out}",
            "left out 1: it is not whole",
            "credentials masked in 1 of 2 trajectories",
        ],
    )
    assert "sk-abc" not in out.read_text()
    assert "[masked key]" in out.read_text()
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_rows_go_into_a_file_for_each_trajectory_where_a_folder_is_named(folder: Path, capsys: Any) -> None:
    out = folder.parent / "rows"
    assert main(["export", str(folder), "--to", "harbor", "-o", str(out)]) == 0
    assert {path.name: len(path.read_text().splitlines()) for path in out.iterdir()} == {"one.jsonl": 2, "two.jsonl": 2}


def test_rows_go_to_stdout_alone(folder: Path, capfdbinary: Any) -> None:
    assert main(["export", str(folder / "one.json"), "--to", "sharegpt", "-o", "-"]) == 0
    told = capfdbinary.readouterr()
    assert [turn["from"] for turn in json.loads(told.out)["conversations"]] == [source for source, _ in SHAREGPT]
    assert b"1 row of 1 trajectory in -" in told.err


def test_what_cannot_be_read_is_told_and_the_rest_written(folder: Path, capsys: Any) -> None:
    (folder / "broken.json").write_text("{")
    (folder / "other.json").write_text('{"steps": []}')
    out = folder.parent / "train.jsonl"
    assert main(["export", str(folder), "--to", "trl", "-o", str(out)]) == 1
    told = capsys.readouterr()
    assert ["broken.json" in told.err, "other.json" in told.err] == [True, True]
    assert len(out.read_text().splitlines()) == 2


def test_no_row_at_all_is_a_failure(folder: Path, capsys: Any) -> None:
    arguments = ["export", folder, "--to", "trl", "-o", folder.parent / "x.jsonl", "--agent", "nobody"]
    assert shown(capsys, *arguments) == (
        1,
        [
            f"0 rows of 2 trajectories in {folder.parent / 'x.jsonl'}",
            "left out 2: another agent's",
            "credentials masked in 1 of 2 trajectories",
        ],
    )


@pytest.mark.parametrize(
    "options",
    [["--to", "alpaca", "-o", "x"], ["--to", "trl"], ["--to", "trl", "-o", "x", "--max-tokens", "0"], ["-o", "x"]],
)
def test_wrong_usage_is_told(folder: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["export", str(folder), *options])
    assert left.value.code == 2


def test_a_place_that_cannot_be_written_to_is_told(folder: Path, capsys: Any) -> None:
    assert main(["export", str(folder), "--to", "trl", "-o", str(folder / "one.json" / "x.jsonl")]) == 1
    assert "cannot be written to" in capsys.readouterr().err


# ── the real readers


@pytest.fixture
def real(tmp_path: Path) -> list[Path]:
    """Documents to read: ours, and those that others made."""
    (own := tmp_path / "own").mkdir()
    told = [weather(), document() | {"trajectory_id": "root"}, weather()]
    told[2]["steps"][2]["tool_calls"][0] |= {"function_name": "search", "arguments": {"query": {"deep": [1, None]}}}
    told[2]["agent"]["tool_definitions"] = []
    for number, each in enumerate(told):
        (own / f"{number}.json").write_text(json.dumps(each))
    return [own, *([SHARED / "trajectories"] if SHARED else [])]


def lines_of(form: str, places: list[Path], out: Path) -> list[dict[str, Any]]:
    assert main(["export", *map(str, places), "--to", form, "-o", str(out)]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_openai_messages_are_what_openais_own_types_say(real: list[Path], tmp_path: Path) -> None:
    pydantic = pytest.importorskip("pydantic")
    chat = pytest.importorskip("openai.types.chat")
    messages = pydantic.TypeAdapter(list[chat.ChatCompletionMessageParam])
    tools = pydantic.TypeAdapter(list[chat.ChatCompletionToolParam])
    rows = lines_of("openai-messages", real, tmp_path / "rows.jsonl")
    assert len(rows) >= 3
    for row in rows:
        assert row.keys() <= {"messages", "tools"}
        messages.validate_python(row["messages"])
        tools.validate_python(row.get("tools", []))
        assert all(pairs(row["messages"]))


def pairs(messages: list[dict[str, Any]]) -> Iterator[bool]:
    """Whether each call but for the last answer's is followed by its result, as the API demands."""
    for at, message in enumerate(messages[:-1]):
        ids = [call["id"] for call in message.get("tool_calls", [])]
        yield [each.get("tool_call_id") for each in messages[at + 1 : at + 1 + len(ids)]] == ids


@needs_training_readers
@pytest.mark.parametrize("form", FORMATS)
def test_datasets_reads_each_format_as_it_was_written(form: str, real: list[Path], tmp_path: Path) -> None:
    rows = lines_of(form, real, tmp_path / "rows.jsonl")
    found = read(form, tmp_path / "rows.jsonl", tmp_path)["rows"]
    assert [{name: value for name, value in row.items() if value is not None} for row in found] == [
        {name: value for name, value in row.items() if value is not None} for row in rows
    ]


@needs_training_readers
def test_unsloth_and_llama_factory_take_each_row_of_sharegpt(real: list[Path], tmp_path: Path) -> None:
    rows = lines_of("sharegpt", real, tmp_path / "rows.jsonl")
    told = read("sharegpt", tmp_path / "rows.jsonl", tmp_path)
    assert told["llama_factory"] == len(rows)
    roles = {"system": "system", "human": "user", "gpt": "assistant"}
    assert told["unsloth"] == [
        [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]] for row in rows
    ]


@needs_training_readers
def test_chat_templates_of_trl_render_each_row(real: list[Path], tmp_path: Path) -> None:
    rows = lines_of("trl", real, tmp_path / "rows.jsonl")
    rendered = read("trl", tmp_path / "rows.jsonl", tmp_path)["rendered"]
    assert {len(texts) for texts in rendered.values()} == {len(rows)}
    first = rendered["qwen3"][[row["id"] for row in rows].index("t")]
    for words in (
        "Be brief.",
        '{"name": "get_weather", "arguments": {"city": "Oslo"}}',
        "<tool_response>\nsun",
        "Rain, sun.",
    ):
        assert words in first


HARBORS = """
import json, sys
from pathlib import Path
from harbor.utils.traces_utils import extract_conversations_from_trajectory
unknown = {"model_name": "unknown-model", "model_provider": "unknown-provider"}
about = {**unknown, "agent_name": "a", "start_time": "", "run_id": "r"}
print(json.dumps([extract_conversations_from_trajectory(Path(path), about) for path in sys.argv[1:]]))
"""


@needs_harbor
@needs_shared
def test_harbor_makes_the_same_rows_of_a_trajectory(tmp_path: Path) -> None:
    folder = (SHARED or Path()) / "trajectories"
    names = ("simple_trajectory", "multi_tool_trajectory", "harbor_openhands", "harbor_terminus2_sub_answers")
    (own := tmp_path / "own.json").write_text(json.dumps(weather()))
    paths = [*(folder / f"{name}.json" for name in names), folder / "harbor_terminus2_summarization.json", own]
    done = subprocess.run([harbor.interpreter(), "-c", HARBORS, *paths], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    for path, theirs in zip(paths, told, strict=True):
        ours = exported(json.loads(path.read_text()), "harbor", path).found
        for row in (*ours, *theirs):
            for name in ("date", "run_id", "task", "trial_name", "result"):  # of the trial, which there is none of
                row.pop(name, None)
        assert ours == theirs
