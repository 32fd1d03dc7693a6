"""What is worth telling of a document, in the words that every face uses: the terminal's tree and tables, and the page.

Pure. What an agent wrote passes through `visible` before it is shown anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TypeVar

from spanrelay.assembly.atif import ContentPart, Metrics, ObservationResult, Step, Trajectory, family, moment_of
from spanrelay.evaluation.figures import has_failed
from spanrelay.records import JSON

CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"
    r"\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # let text stand in another order than it is written in
    r"\U000e0000-\U000e007f]"  # tags, which nobody sees and models read
)
"""What could move a terminal's cursor, change its colours or hide what stands there; text is shown, never obeyed."""

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


def whom(extra: dict[str, JSON]) -> dict[str, str]:
    """Whom and what a run was for, and where it ran, each fact by its name."""
    metadata: object = extra.get("metadata")
    facts = {"user": extra.get("user"), **(metadata if isinstance(metadata, dict) else {})}
    facts["environment"] = extra.get("environment")
    return {name: str(fact) for name, fact in facts.items() if isinstance(fact, (str, int, float))}


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


def took(extra: dict[str, JSON] | None) -> str | None:
    """How long a model or a tool took; None where nobody has measured it."""
    seconds = (extra or {}).get("duration_sec")
    if not isinstance(seconds, (int, float)):
        return None
    if seconds >= 0.1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "<1 ms"


def duration(seconds: float) -> str:
    """`380 ms`, `1.2 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "<1 ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {rest} s"


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
    """How long after the first step something was, as `+1.5 s`."""
    seconds = since(begun, moment)
    return None if seconds is None else f"+{seconds:.1f} s"


def since(begun: str | None, moment: str | None) -> float | None:
    """Seconds from one time to another; None where one is missing or only one of the two has a zone."""
    start, now = moment_of(begun or ""), moment_of(moment or "")
    if start is None or now is None or (start.tzinfo is None) != (now.tzinfo is None):
        return None
    return (now - start).total_seconds()


def failure(error: dict[str, JSON]) -> str:
    """An error's type and its message, those that there are: an interrupt has nothing to say."""
    return ": ".join(str(word) for word in (error.get("type"), error.get("message")) if word)


def visible(text: str) -> str:
    """`text` with control characters made visible and harmless, as Python would write them."""
    return CONTROL.sub(_written, text.replace("\t", "    "))


def _written(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode("ascii")


def text_of(content: str | list[ContentPart] | None) -> str:
    """The text of a message; media as their path."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(
        part.text or "" if part.source is None else f"[{part.type} {part.source.path}]" for part in content
    )


def begun_in(result: ObservationResult, children: dict[str | None, Trajectory]) -> list[Trajectory]:
    """The embedded documents that a result refers to."""
    references = result.subagent_trajectory_ref or []
    return [children[each.trajectory_id] for each in references if each.trajectory_id in children]


def count_errors(trajectory: Trajectory) -> int:
    """How many steps and results of a document and of those it embeds are failures."""
    steps = [step for document in family(trajectory) for step in document.steps]
    results = [result for step in steps if step.observation for result in step.observation.results]
    return sum("error" in (step.extra or {}) for step in steps) + sum(
        has_failed(result.extra or {}) for result in results
    )


N = TypeVar("N", int, float)


def total(numbers: Iterable[N | None]) -> N | None:
    """The sum of those numbers that are known; None where none is."""
    known = [number for number in numbers if number is not None]
    return sum(known[1:], known[0]) if known else None


def plural(count: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
