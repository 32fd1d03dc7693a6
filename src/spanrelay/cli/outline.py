"""A trajectory as a tree of short styled lines, for any way of printing.

Pure: what it returns depends on the document and the limits only, never on the terminal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from spanrelay.assembly.atif import (
    ContentPart,
    FinalMetrics,
    Metrics,
    ObservationResult,
    Step,
    ToolCall,
    Trajectory,
    family,
    moment_of,
)
from spanrelay.records import JSON

Piece = tuple[str, str]
"""A text and its style: title, system, user, agent, tool, result, error, quiet, or "" for plain."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What could move a terminal's cursor or change its colours; recorded text is shown, never obeyed."""


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
    return [(agent.name, "title"), *quietly(about)]


def remarks(trajectory: Trajectory, limits: Limits) -> list[list[Piece]]:
    """Whether a document is whole, and what its writer noted."""
    extra = trajectory.extra or {}
    told = quietly(whom(extra, limits))
    found = [told] if told else []
    words = [str(extra["status"])] if "status" in extra else []
    words += ["recovered after a sudden end"] if extra.get("recovered") else []
    found += paragraph(", ".join(words), "error", limits)
    found += paragraph(trajectory.notes or "", "quiet", limits)
    return found + [piece for told in uncaptured(trajectory) for piece in paragraph(told, "quiet", limits)]


CAPTURE = {
    "openinference": "OPENINFERENCE_HIDE_INPUTS=false and OPENINFERENCE_HIDE_OUTPUTS=false",
    "traceloop": "TRACELOOP_TRACE_CONTENT=true",
    "genai": "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=span_only and "
    "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental",
    "com.anthropic.sdk.python": "ANTHROPIC_OPEN_TELEMETRY_TRACES_CONTENT_MODE=content",  # anthropic 2.14
}
"""The variables by which an instrumentation, or else one that writes a dialect, captures content."""


def uncaptured(trajectory: Trajectory) -> Iterator[str]:
    """Say of each instrumentation that has left content out how it would capture it."""
    origins = dict(origin for step in trajectory.steps if (origin := uncaptured_by(step)) is not None)
    for scope, dialect in origins.items():
        variables = CAPTURE.get(scope) or CAPTURE.get(dialect)
        remedy = f"; {variables} in its environment would capture it" if variables else ""
        yield f"content not captured by {scope}{remedy}"


def uncaptured_by(step: Step) -> tuple[str, str] | None:
    """Who recorded a step without its content, and in which dialect; None where the content is there."""
    extra = step.extra or {}
    if extra.get("content_captured") is not False:
        return None
    origin = extra.get("otel")
    origin = origin if isinstance(origin, dict) else {}
    return str(origin.get("scope") or "its instrumentation"), str(origin.get("dialect"))


def whom(extra: dict[str, JSON], limits: Limits) -> list[str | None]:
    """Whom and what a run was for, and where it ran."""
    metadata: object = extra.get("metadata")
    facts = {"user": extra.get("user"), **(metadata if isinstance(metadata, dict) else {})}
    facts["environment"] = extra.get("environment")
    return [f"{name} {limits.cut(str(fact))}" for name, fact in facts.items() if isinstance(fact, (str, int, float))]


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
        heading: list[Piece] = [(f"{step.step_id} {begun_by(step) or step.source}", step.source)]
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


def agent_of(step: Step, trajectory: Trajectory) -> str:
    """Who acted in a step: another agent than the document's may have."""
    return str((step.extra or {}).get("agent_name") or trajectory.agent.name)


def reports_tokens(step: Step) -> bool:
    """Whether anything is known of the tokens of a step."""
    return step.metrics is not None and (step.metrics.prompt_tokens, step.metrics.completion_tokens) != (None, None)


def lacks_tokens(step: Step) -> bool:
    """Whether a model has answered, and nobody knows how many tokens that took."""
    answered = step.source == "agent" and step.llm_call_count != 0 and not step.is_copied_context
    return answered and not {"error", "incomplete"} & (step.extra or {}).keys() and not reports_tokens(step)


def begun_by(step: Step) -> str | None:
    """What kind of conversation a step begins, where that is all it does: its calls are no tool's."""
    kinds = [call.dispatch for call in step.tool_calls or []]
    return kinds[0] if kinds and all(kinds) else None


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


def took(extra: dict[str, JSON] | None) -> str | None:
    """How long a model or a tool took; None where nobody has measured it."""
    seconds = (extra or {}).get("duration_sec")
    if not isinstance(seconds, (int, float)):
        return None
    if seconds >= 0.1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "<1 ms"


def called(step: Step) -> str | None:
    """Who spoke, where it was no model."""
    if step.llm_call_count != 0 or begun_by(step):
        return None
    answered_by = (step.extra or {}).get("answered_by")
    return f"answered by {answered_by}, no model call" if answered_by else "no model call"


def incomplete(extra: dict[str, JSON] | None) -> str | None:
    """Why a step or result is not whole."""
    reason = (extra or {}).get("incomplete")
    return f"incomplete: {reason}" if reason else None


def tokens(metrics: Metrics) -> str | None:
    """Tokens and cost of one step."""
    return counted(metrics.prompt_tokens, metrics.cached_tokens, metrics.completion_tokens, metrics.cost_usd)


def counted(prompt: int | None, cached: int | None, completion: int | None, cost: float | None) -> str | None:
    """Tokens in and out, cached ones apart, and dollars; None when nothing is known."""
    words = [
        f"{prompt:,} in" + (f" ({cached:,} cached)" if cached else "") if prompt is not None else "",
        f"{completion:,} out" if completion is not None else "",
        dollars(cost) if cost is not None else "",
    ]
    return ", ".join(word for word in words if word) or None


def dollars(cost: float) -> str:
    """`$1.2500`, and three significant digits of what is less than a cent."""
    return f"${cost:.4f}" if abs(cost) >= 0.01 else f"${Decimal(f'{cost:.3g}'):f}"


def elapsed(begun: str | None, moment: str | None) -> str | None:
    """Seconds since the first step; None where a time is missing or only one of the two has a zone."""
    start, now = moment_of(begun or ""), moment_of(moment or "")
    if start is None or now is None or (start.tzinfo is None) != (now.tzinfo is None):
        return None
    return f"+{(now - start).total_seconds():.1f} s"


def said(step: Step, limits: Limits) -> list[list[Piece]]:
    """The reasoning, the message and the error of a step."""
    found = paragraph(step.reasoning_content or "", "quiet", limits)
    found += paragraph(text_of(step.message), "", limits)
    error = (step.extra or {}).get("error")
    if isinstance(error, dict):
        found += paragraph(f"✗ {failure(error)}", "error", limits)
    return found


def failure(error: dict[str, JSON]) -> str:
    """An error's type and its message, those that there are: an interrupt has nothing to say."""
    return ": ".join(str(word) for word in (error.get("type"), error.get("message")) if word)


def paragraph(text: str, style: str, limits: Limits) -> list[list[Piece]]:
    """The lines of a text, each in `style`."""
    return [[(line, style)] for line in visible(limits.cut(text)).splitlines()]


def visible(text: str) -> str:
    """`text` with control characters made visible and harmless."""
    return CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text.replace("\t", "    "))


def text_of(content: str | list[ContentPart] | None) -> str:
    """The text of a message; media as their path."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(
        part.text or "" if part.source is None else f"[{part.type} {part.source.path}]" for part in content
    )


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


def begun_in(result: ObservationResult, children: dict[str | None, Trajectory]) -> list[Trajectory]:
    """The embedded documents that a result refers to."""
    references = result.subagent_trajectory_ref or []
    return [children[each.trajectory_id] for each in references if each.trajectory_id in children]


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


def count_errors(trajectory: Trajectory) -> int:
    """How many steps and results of a document and of those it embeds are failures."""
    steps = [step for document in family(trajectory) for step in document.steps]
    results = [result for step in steps if step.observation for result in step.observation.results]
    return sum("error" in (step.extra or {}) for step in steps) + sum(
        bool((result.extra or {}).get("is_error")) for result in results
    )


def tokens_of_all(finals: list[FinalMetrics | None]) -> str | None:
    """Tokens and cost over documents, as they state them."""
    known = [final for final in finals if final is not None]
    return counted(
        total(final.total_prompt_tokens for final in known),
        total(final.total_cached_tokens for final in known),
        total(final.total_completion_tokens for final in known),
        total(final.total_cost_usd for final in known),
    )


N = TypeVar("N", int, float)


def total(numbers: Iterable[N | None]) -> N | None:
    """The sum of those numbers that are known; None where none is."""
    known = [number for number in numbers if number is not None]
    return sum(known[1:], known[0]) if known else None


def plural(count: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
