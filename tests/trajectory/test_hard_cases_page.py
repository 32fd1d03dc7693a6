"""`docs/hard-cases.md` says which test shows what; `python -m tests.trajectory.test_hard_cases_page` writes it anew."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "hard-cases.md"

CASES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "each call repeats the whole history",
        "each message once",
        ("test_a_repeated_history_is_written_once",),
    ),
    (
        "a model asks for several tools at once",
        "one step, with its results in the order of its calls",
        ("test_parallel_calls_stand_in_one_step_and_their_results_in_the_order_of_the_calls",),
    ),
    (
        "a model asks for equal calls at once, without ids",
        "paired in order if as many ran; otherwise not paired",
        (
            "test_identical_calls_without_ids_are_paired_in_order_when_as_many_runs_come",
            "test_identical_calls_without_ids_stay_unpaired_when_one_run_is_missing",
        ),
    ),
    (
        "a tool ran that no model asked for",
        "a step of its own, without a model call",
        ("test_a_tool_that_no_model_asked_for_is_a_step_without_a_model_call",),
    ),
    (
        "a tool has no span",
        "its result, read from the next request",
        ("test_a_result_without_a_tool_span_comes_from_the_next_request",),
    ),
    (
        "a tool call has another id in the next request",
        "the id under which its result comes",
        ("test_a_call_takes_the_id_by_which_the_next_request_names_it",),
    ),
    (
        "tool calls have no ids, or ids used before",
        "new ids, each used once",
        (
            "test_calls_without_ids_get_ids_and_are_answered_by_name",
            "test_reused_call_ids_are_made_unique_and_answered_in_their_own_turn",
            "test_calls_of_one_answer_that_share_their_id_have_each_its_own_result",
        ),
    ),
    (
        "spans come late, or in another order",
        "the same document",
        (
            "test_the_order_of_arrival_does_not_change_the_story",
            "test_a_late_span_of_a_session_that_has_been_closed_finds_its_place",
            "test_any_order_of_arrival_gives_the_same_bytes",
        ),
    ),
    (
        "two instrumentations record one call",
        "one step, with what each knows",
        (
            "test_a_provider_span_beneath_a_framework_span_is_the_same_call_and_fills_its_gaps",
            "test_a_lone_provider_span_in_another_trace_is_the_same_call",
            "test_calls_in_sequence_with_the_same_content_are_never_one",
        ),
    ),
    (
        "a client retries within a call",
        "one step with its attempts",
        ("test_failed_attempts_within_a_framework_call_are_told_on_its_step",),
    ),
    (
        "a program asks the same again",
        "one more step, and no message twice",
        ("test_a_failed_call_is_a_step_with_its_error_and_its_retry_repeats_no_message",),
    ),
    (
        "a model call fails",
        "a step with its error and no tokens",
        ("test_a_failed_call_is_a_step_with_its_error_and_its_retry_repeats_no_message",),
    ),
    (
        "a tool fails",
        "what the model was told, marked as an error",
        ("test_a_tool_that_raised_shows_what_the_model_was_told",),
    ),
    (
        "a stream is cut, or cancelled",
        "what had arrived",
        ("test_a_stream_that_was_cut_keeps_what_had_come",),
    ),
    (
        "a span's parent never came",
        "the span, and a note",
        (
            "test_a_span_whose_parent_never_came_is_kept_and_noted",
            "test_a_lost_span_takes_nothing_with_it_but_what_only_it_said",
        ),
    ),
    (
        "the parent is another process's",
        "a document of its own that names the parent",
        ("test_a_root_with_a_remote_parent_names_it",),
    ),
    (
        "a span never ends",
        "the step, marked as unfinished",
        ("test_spans_that_never_ended_are_marked_when_the_program_ends",),
    ),
    (
        "a tool runs an agent",
        "an embedded document, to which the call refers",
        (
            "test_an_agent_beneath_a_tool_is_embedded_and_the_call_refers_to_it",
            "test_sub_agents_are_embedded_below_the_calls_that_started_them",
        ),
    ),
    (
        "an agent runs directly beneath an agent",
        "an embedded document, and a step that begins it",
        ("test_an_agent_directly_beneath_an_agent_with_other_words_is_embedded_behind_a_step",),
    ),
    (
        "agents hand over a conversation",
        "one document",
        ("test_agents_that_share_a_history_hand_off_in_one_document",),
    ),
    (
        "a session has several traces",
        "one document",
        (
            "test_the_turns_of_a_session_join_across_traces",
            "test_every_call_and_tool_of_a_session_may_be_a_trace_of_its_own",
        ),
    ),
    (
        "several runs use one session at the same time",
        "a document for each",
        ("test_programs_that_share_a_session_by_mistake_get_documents_of_their_own",),
    ),
    (
        "a history is compacted, trimmed or edited",
        "a mark at that place, and what follows",
        (
            "test_a_compacted_history_is_marked_and_its_summary_kept",
            "test_a_trimmed_history_is_marked_as_pruned",
            "test_a_history_that_was_edited_goes_on_from_where_it_was_cut",
        ),
    ),
    (
        "calls serve other ends: titles, judges, summaries",
        "side conversations; their tokens count",
        (
            "test_a_title_asked_for_first_is_a_side_conversation_of_the_work_that_follows",
            "test_a_helper_call_is_a_side_conversation_and_its_tokens_count",
        ),
    ),
    (
        "a history has answers that were never recorded",
        "copied context, without tokens",
        ("test_turns_that_came_with_the_history_are_copied_context",),
    ),
    (
        "the system prompt changes",
        "a step in the same conversation",
        ("test_a_changed_system_prompt_is_a_step_and_no_rewrite_of_the_dialogue",),
    ),
    (
        "the offered tools change",
        "every tool that was offered",
        ("test_tool_definitions_are_the_union_of_all_that_were_offered",),
    ),
    (
        "answers are streamed",
        "the whole answer, with the time to its first chunk",
        ("test_streamed_chat_answers_tell_the_tokens_of_all_chunks", "test_time_to_first_chunk_is_read_in_seconds"),
    ),
    (
        "an answer has several choices",
        "the first choice, and the others as alternatives",
        ("test_further_choices_stand_as_alternatives",),
    ),
    (
        "the provider runs tools",
        "calls and results in the same step",
        ("test_tools_that_the_provider_runs_stand_with_their_results_on_the_same_step",),
    ),
    (
        "messages have images, sounds or documents",
        "references to files beside it; links stay links",
        (
            "test_images_are_files_and_links_stay_links",
            "test_sounds_make_the_document_one_of_version_1_8",
        ),
    ),
    (
        "content was not captured",
        "the structure without the texts",
        ("test_without_content_the_structure_stays",),
    ),
    (
        "attributes were cut",
        "a mark; it is not taken for a compaction",
        ("test_a_truncated_history_is_no_compaction",),
    ),
    (
        "a tool's result is huge",
        "its beginning, with its length and hash",
        ("test_huge_results_are_cut_and_name_their_hash",),
    ),
    (
        "a run waits for a person and goes on in another trace",
        "the answer, at the call that waited",
        ("test_an_interrupted_call_is_answered_in_a_later_trace",),
    ),
    (
        "arguments are not an object",
        "an object that wraps them",
        ("test_arguments_are_always_an_object",),
    ),
    (
        "agents talk in text alone",
        "a user's step for each reply of the environment",
        ("test_agents_that_talk_in_text_only_get_user_steps_for_what_the_world_answers",),
    ),
    (
        "a completion's prompt is one text",
        "a question and an answer",
        ("test_completions_tell_their_tokens_whole_and_streamed",),
    ),
    (
        "threads lose the context",
        "tools, found by the id of their call",
        ("test_every_call_and_tool_of_a_session_may_be_a_trace_of_its_own",),
    ),
    (
        "spans are not sampled",
        "everything, if a setting asks for it; a message names that setting",
        ("test_a_scope_that_is_not_sampled_says_which_setting_records_it",),
    ),
    (
        "clocks differ",
        "times such that parents enclose their children",
        ("test_a_clock_that_is_behind_does_not_tear_what_ran_within_from_its_parent",),
    ),
    (
        "two processes write one session",
        "a file for each",
        ("test_two_processes_with_one_session_write_two_files",),
    ),
)
"""What happens, what a trajectory makes of it, and the tests that show it."""

HEAD = """\
# Hard cases

Run the tests that show most of them:

```bash
make test TESTS=tests/trajectory/test_hard_cases.py
```

Real telemetry is not tidy. Each row names something that happens in it, what the trajectory contains then, and the
tests that show it. `python -m tests.trajectory.test_hard_cases_page` writes this page.

| # | What happens | What the trajectory contains | Shown by |
|---|---|---|---|
"""


def written() -> str:
    """Return the page."""
    places = _places()
    rows = [
        f"| {number} | {case} | {told} | {', '.join(f'[`{test}`]({places[test]})' for test in tests)} |"
        for number, (case, told, tests) in enumerate(CASES, 1)
    ]
    return HEAD + "\n".join(rows) + "\n"


def _places() -> dict[str, str]:
    """Return the files of all tests by their names, as the page links to them."""
    found: dict[str, str] = {}
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                found.setdefault(node.name, f"../{path.relative_to(ROOT)}")
    return found


def test_the_page_names_the_tests_that_there_are() -> None:
    assert PAGE.read_text() == written(), "python -m tests.trajectory.test_hard_cases_page writes it anew"


if __name__ == "__main__":
    PAGE.write_text(written())
