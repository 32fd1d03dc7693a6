"""A trajectory as a tree of short styled lines, for any way of printing.

Pure: what it returns depends on the document and the limits only, never on the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from spanrelay.assembly.atif import FinalMetrics, ObservationResult, Step, ToolCall, Trajectory, family
from spanrelay.view.facts import (
    agent_of,
    begun_by,
    begun_in,
    called,
    count_errors,
    counted,
    elapsed,
    failure,
    incomplete,
    lacks_tokens,
    plural,
    reports_tokens,
    text_of,
    tokens,
    took,
    total,
    uncaptured,
    uncaptured_by,
    visible,
    whom,
)

Piece = tuple[str, str]
"""A text and its style: title, system, user, agent, tool, result, error, quiet, or "" for plain."""


@dataclass(slots=True)
class Branch:
    """One node: its lines, and the nodes below it."""

    lines: list[list[Piece]]
    children: list[Branch] = field(default_factory=list["Branch"])


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each text is shown."""

    lines: int = 8
    characters: int = 600

    def cut(self, text: str) -> str:
        """The head of `text`, with a word on what is missing."""
        shown = text.rstrip()[: self.characters]
        lines = shown.splitlines()[: self.lines]
        missing = len(text.rstrip()) - len(shown := "\n".join(lines))
        return f"{shown} … (+{missing} characters)" if missing > 0 else shown


@dataclass(frozen=True, slots=True)
class Span:
    """Which steps of a document are shown, by their numbers; one below 0 counts from the last, which is -1."""

    first: int = 1
    last: int = -1

    def of(self, count: int) -> range:
        """The numbers of the steps meant, those that there are, of `count` steps."""
        first, last = (number if number > 0 else count + 1 + number for number in (self.first, self.last))
        return range(max(first, 1), min(last, count) + 1)


ALL = Span()


def outline(trajectory: Trajectory, limits: Limits, span: Span = ALL) -> Branch:
    """Return the tree of a document; sub-agents stand below the result that refers to them."""
    count, shown = len(trajectory.steps), span.of(len(trajectory.steps))
    lines = [title(trajectory), *remarks(trajectory, limits)]
    if len(shown) < count:
        numbers = f"step {shown[0]}" if len(shown) == 1 else f"steps {shown[0]}-{shown[-1]}" if shown else "no step"
        lines[0] += quietly([f"{numbers} of {count}"])
    steps = [branch for number, branch in enumerate(steps_of(trajectory, limits), 1) if number in shown]
    return Branch(lines, [*steps, totals([trajectory])])


def outline_of_session(session: str, runs: list[Trajectory], limits: Limits, span: Span = ALL) -> Branch:
    """Return one tree of several documents of a session, in the order given, with the steps meant of each."""
    title: list[Piece] = [(f"session {visible(session)}", "title"), *quietly([plural(len(runs), "run")])]
    return Branch([title], [*(outline(run, limits, span) for run in runs), totals(runs)])


def title(trajectory: Trajectory) -> list[Piece]:
    """Who acted."""
    agent = trajectory.agent
    version = agent.version if agent.version != "unknown" else None
    about = [version, agent.model_name, trajectory.session_id and f"session {trajectory.session_id}"]
    return [(visible(agent.name), "title"), *quietly(about)]


def remarks(trajectory: Trajectory, limits: Limits) -> list[list[Piece]]:
    """Whether a document is whole, and what its writer noted."""
    extra = trajectory.extra or {}
    told = quietly([f"{name} {limits.cut(fact)}" for name, fact in whom(extra).items()])
    found = [told] if told else []
    words = [str(extra["status"])] if "status" in extra else []
    words += ["recovered after a sudden end"] if extra.get("recovered") else []
    found += paragraph(", ".join(words), "error", limits)
    found += paragraph(trajectory.notes or "", "quiet", limits)
    return found + [piece for told in uncaptured(trajectory) for piece in paragraph(told, "quiet", limits)]


def quietly(facts: list[str | None]) -> list[Piece]:
    """Facts behind a name, as `  one · two`."""
    known = [visible(fact) for fact in facts if fact]
    return [("  " + " · ".join(known), "quiet")] if known else []


def steps_of(trajectory: Trajectory, limits: Limits) -> Iterator[Branch]:
    """One branch for each step."""
    children = {child.trajectory_id: child for child in trajectory.subagent_trajectories or []}
    begun = next((step.timestamp for step in trajectory.steps if step.timestamp), None)
    acting = trajectory.agent.name
    silent = not any(reports_tokens(step) for step in trajectory.steps)
    for step in trajectory.steps:
        before, acting = acting, agent_of(step, trajectory) if step.source == "agent" else acting
        heading: list[Piece] = [(f"{step.step_id} {visible(begun_by(step) or step.source)}", step.source)]
        heading += quietly(
            [
                acting if acting != before else None,
                *facts_of(step, trajectory),
                "tokens not reported" if not silent and lacks_tokens(step) else None,
                elapsed(begun, step.timestamp),
            ]
        )
        lines = [heading, *said(step, limits)]
        yield Branch(lines, list(calls_of(step, children, limits)))


def facts_of(step: Step, trajectory: Trajectory) -> list[str | None]:
    """What is worth a word about a step beside what it says."""
    model = step.model_name if step.model_name != trajectory.agent.model_name else None
    return [
        model,
        took(step.extra),
        tokens(step.metrics) if step.metrics else None,
        called(step),
        "copied from an earlier part" if step.is_copied_context else None,
        f"content not captured by {origin[0]}" if (origin := uncaptured_by(step)) else None,
        incomplete(step.extra),
    ]


def said(step: Step, limits: Limits) -> list[list[Piece]]:
    """The reasoning, the message and the error of a step."""
    found = paragraph(step.reasoning_content or "", "quiet", limits)
    found += paragraph(text_of(step.message), "", limits)
    error = (step.extra or {}).get("error")
    if isinstance(error, dict):
        found += paragraph(f"✗ {failure(error)}", "error", limits)
    return found


def paragraph(text: str, style: str, limits: Limits) -> list[list[Piece]]:
    """The lines of a text, each in `style`."""
    return [[(line, style)] for line in visible(limits.cut(text)).splitlines()]


def calls_of(step: Step, children: dict[str | None, Trajectory], limits: Limits) -> Iterator[Branch]:
    """The tool calls of a step, each with its results; results of no call come last."""
    results = step.observation.results if step.observation else []
    for call in step.tool_calls or []:
        own = [result for result in results if result.source_call_id == call.tool_call_id]
        begun = [child for result in own for child in begun_in(result, children)] if call.dispatch else []
        if begun:
            yield from (outline(child, limits) for child in begun)
            continue
        lasted = next((word for word in (took(result.extra) for result in own) if word), None)
        branch = Branch([[*signature(call, limits), *quietly([lasted])]])
        refused = (call.extra or {}).get("refused")
        if refused and not any((result.extra or {}).get("is_error") for result in own):
            branch.lines += paragraph(f"✗ refused by policy: {refused}", "error", limits)
        for result in own:
            add_result(branch, result, children, limits)
        if not own:
            branch.lines.append([("no result", "quiet")])
        yield branch
    for result in results:
        if result.source_call_id is None:
            add_result(branch := Branch([[("observation", "tool")]]), result, children, limits)
            yield branch


def signature(call: ToolCall, limits: Limits) -> list[Piece]:
    """The call as one would write it."""
    arguments = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    return [(visible(call.function_name), "tool"), (f"({visible(limits.cut(arguments))})", "")]


def add_result(
    branch: Branch, result: ObservationResult, children: dict[str | None, Trajectory], limits: Limits
) -> None:
    """Write a result below its call, and the sub-agents that made it below that."""
    failed = bool((result.extra or {}).get("is_error"))
    text = text_of(result.content) or incomplete(result.extra) or "(empty)"
    branch.lines += paragraph(f"{'✗' if failed else '→'} {text}", "error" if failed else "result", limits)
    branch.children += [outline(child, limits) for child in begun_in(result, children)]
    for reference in result.subagent_trajectory_ref or []:
        if reference.trajectory_id not in children and reference.trajectory_path:
            branch.lines.append([(f"see {visible(reference.trajectory_path)}", "quiet")])


def totals(trajectories: list[Trajectory]) -> Branch:
    """Steps, calls, failures and tokens of whole documents, everything they embed included."""
    documents = [document for trajectory in trajectories for document in family(trajectory)]
    steps = [step for document in documents for step in document.steps]
    errors = sum(map(count_errors, trajectories))
    calls = sum(not call.dispatch for step in steps for call in step.tool_calls or [])
    counts = [plural(len(documents), "conversation")] if len(documents) > 1 else []
    counts += [plural(len(steps), "step"), plural(calls, "tool call")]
    line: list[Piece] = [(" · ".join(counts), "title")]
    if errors:
        line.append((f" · {plural(errors, 'error')}", "error"))
    spent = tokens_of_all([trajectory.final_metrics for trajectory in trajectories])
    if not any(map(reports_tokens, steps)) and any(map(lacks_tokens, steps)):
        spent = ", ".join(word for word in ("tokens not reported", spent) if word)
    return Branch([[*line, (f" · {spent}", "title")] if spent else line])


def tokens_of_all(finals: list[FinalMetrics | None]) -> str | None:
    """Tokens and cost over documents, as they state them."""
    known = [final for final in finals if final is not None]
    return counted(
        total(final.total_prompt_tokens for final in known),
        total(final.total_cached_tokens for final in known),
        total(final.total_completion_tokens for final in known),
        total(final.total_cost_usd for final in known),
    )
