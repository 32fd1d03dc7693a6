"""The ATIF document of every version from 1.0 to 1.8 as plain objects, and the strict profile of a file.

Pure: no I/O. One table of fields reads, writes and judges an object, so that the three can never disagree.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, cast

from spanrelay.errors import SpanRelayError
from spanrelay.records import JSON

VERSIONS = tuple(f"ATIF-v1.{minor}" for minor in range(9))
"""Every published value of `schema_version`."""

DEFAULT_VERSION = "ATIF-v1.7"
"""What is written where nobody asks for another: some readers know none above."""

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
AUDIO_TYPES = tuple(f"audio/{kind}" for kind in ("wav", "mpeg", "mp4", "aac", "ogg", "flac", "webm", "aiff"))
AUDIO_ALIASES = {
    **dict.fromkeys(("audio/mp3", "audio/mpga", "audio/x-mpeg"), "audio/mpeg"),
    **dict.fromkeys(("audio/x-wav", "audio/wave", "audio/vnd.wave"), "audio/wav"),
    **dict.fromkeys(("audio/m4a", "audio/x-m4a"), "audio/mp4"),
    "audio/x-aac": "audio/aac",
    "audio/x-flac": "audio/flac",
    "audio/x-aiff": "audio/aiff",
}
Dispatch = Literal["sub-agent", "side conversation"]
"""What a call begins that no model made: an agent's work, or a conversation beside the main one."""

DISPATCH_ID = "subagent:"
"""How the ids of such calls begin, here and in the documents of other producers."""
AGENT_ONLY = ("model_name", "reasoning_effort", "reasoning_content", "tool_calls", "metrics")
"""The fields of a step that only a step of the agent may have."""


def same_again(number: int) -> str:
    """Return the message of a step that says the system prompt of step `number` once more."""
    return f"[system prompt of step {number} again]"


class AtifError(SpanRelayError, ValueError):
    """A document is not ATIF; the message names the place, what stands there and what was expected."""


Report = Callable[[str, str], None]
"""Takes a place (`$.steps[2].message`) and what is wrong there."""

Reader = Callable[[Any, str, Report], Any]


def _refuse(place: str, wrong: str) -> None:
    raise AtifError(f"{place}: {wrong}")


class _Field(NamedTuple):
    """How a field is read; `inner` where its value is an object of the schema, or has some in it."""

    read: Reader
    required: bool = False
    inner: bool = False


class _Object:
    """What every object of the schema can do; its `_fields` say how."""

    __slots__ = ()
    _fields: ClassVar[Mapping[str, _Field]]
    _to_json: ClassVar[Callable[[Any], dict[str, JSON]]]

    def __init_subclass__(cls) -> None:
        cls._to_json = _writer_of(cls._fields)

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of the object's fields, in the order of the schema."""
        return tuple(cls._fields)

    def to_json(self) -> dict[str, JSON]:
        """Return the object as JSON in the order of the schema, without the fields that are None."""
        return self._to_json()


def _writer_of(fields: Mapping[str, _Field]) -> Callable[[Any], dict[str, JSON]]:
    """Return what makes JSON of an object, a statement for each field as in what `dataclass` makes.

    A loop over the fields takes five times as long.
    """
    lines = ["def to_json(self):", " found = {}"]
    for name, each in fields.items():
        told = "value if type(value) is str else written(value)" if each.inner else "value"
        lines += [f" value = self.{name}", f" if value is not None: found[{name!r}] = {told}"]
    scope: dict[str, Any] = {"written": _written}
    exec("\n".join([*lines, " return found"]), scope)  # made of names that stand in this file
    return scope["to_json"]


AnyObject = TypeVar("AnyObject", bound=_Object)


def _written(value: Any) -> JSON:
    if isinstance(value, _Object):
        return value.to_json()
    if isinstance(value, list):
        return [_written(item) for item in cast("list[Any]", value)]
    return value


def _read(cls: type[AnyObject], value: Any, place: str, report: Report) -> AnyObject | None:
    if not isinstance(value, Mapping):
        report(place, f"expected an object, got {value!r:.80}")
        return None
    given = cast("Mapping[str, Any]", value)
    for name in given:
        if name not in cls._fields:
            report(f"{place}.{name}", f"is not a field of {cls.__name__}; put it into `extra`")
    found: dict[str, Any] = {}
    for name, (reader, required, _) in cls._fields.items():
        item = given.get(name)
        if item is not None:
            found[name] = reader(item, f"{place}.{name}", report)
        elif required:
            report(f"{place}.{name}", f"is missing; {cls.__name__} needs it")
    return _built(cls, found)


def _built(cls: type[AnyObject], found: dict[str, Any]) -> AnyObject | None:
    """Return the object, or None where a required field is missing; that has been reported."""
    needed = [name for name, each in cls._fields.items() if each.required]
    return cls(**found) if all(found.get(name) is not None for name in needed) else None


def _typed(kinds: tuple[type, ...], wanted: str) -> Reader:
    def read(value: Any, place: str, report: Report) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            report(place, f"expected {wanted}, got {value!r:.80}")
            return None
        return value

    return read


def _one_of(*options: str) -> Reader:
    def read(value: Any, place: str, report: Report) -> Any:
        if value not in options:
            report(place, f"expected one of {', '.join(options)}, got {value!r:.80}")
            return None
        return value

    return read


def _list_of(reader: Reader, least: int = 0) -> Reader:
    def read(value: Any, place: str, report: Report) -> Any:
        if not isinstance(value, list):
            report(place, f"expected a list, got {value!r:.80}")
            return None
        items = cast("list[Any]", value)
        if len(items) < least:
            report(place, f"expected at least {least} item, got none")
        return [reader(item, f"{place}[{index}]", report) for index, item in enumerate(items)]

    return read


def _object(cls: type[_Object]) -> Reader:
    def read(value: Any, place: str, report: Report) -> Any:
        return _read(cls, value, place, report)

    return read


def _time(value: Any, place: str, report: Report) -> Any:
    if not isinstance(value, str) or moment_of(value) is None:
        report(place, f"expected a time in ISO 8601, got {value!r:.80}")
        return None
    return value


def moment_of(text: str) -> datetime | None:
    """Return the moment that `text` names in ISO 8601, or None."""
    # Python 3.10 reads three or six digits of a second, no others.
    head, dot, tail = text.replace("Z", "+00:00").partition(".")
    digits = len(tail) - len(tail.lstrip("0123456789"))
    fraction = f"{tail[:digits][:6]:0<6}{tail[digits:]}" if dot else ""
    try:
        return datetime.fromisoformat(f"{head}{dot}{fraction}")
    except ValueError:
        return None


_text = _typed((str,), "a string")
_whole = _typed((int,), "a whole number")
_number = _typed((int, float), "a number")
_flag = _typed((bool,), "true or false")
_mapping = _typed((dict,), "an object")


def _count(value: Any, place: str, report: Report) -> Any:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        report(place, f"expected a whole number from 0, got {value!r:.80}")
        return None
    return value


def _content(value: Any, place: str, report: Report) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _parts(value, place, report)
    report(place, f"expected a string or a list of content parts, got {value!r:.80}")
    return None


@dataclass(slots=True)
class MediaSource(_Object):
    """Where an image or a sound is: `path` is relative to the document, absolute, or a URL."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "media_type": _Field(_text, True),
        "path": _Field(_text, True),
        "duration_sec": _Field(_number),
    }
    media_type: str
    path: str
    duration_sec: float | None = None


@dataclass(slots=True)
class ContentPart(_Object):
    """One part of a multimodal message (1.6 images, 1.8 audio)."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "type": _Field(_one_of("text", "image", "audio"), True),
        "text": _Field(_text),
        "source": _Field(_object(MediaSource), inner=True),
    }
    type: str
    text: str | None = None
    source: MediaSource | None = None


def _part(value: Any, place: str, report: Report) -> Any:
    part = _read(ContentPart, value, place, report)
    if part is None:
        return None
    if part.type == "text":
        if part.text is None or part.source is not None:
            report(place, "a text part has `text` and no `source`")
    elif part.source is None or part.text is not None:
        report(place, f"part {part.type!r} has a `source` and no `text`")
    else:
        _check_media(part.type, part.source, place, report)
    return part


def _check_media(kind: str, source: MediaSource, place: str, report: Report) -> None:
    allowed = IMAGE_TYPES if kind == "image" else (*AUDIO_TYPES, *AUDIO_ALIASES)
    if source.media_type not in allowed:
        report(f"{place}.source.media_type", f"{source.media_type!r} is not an {kind} type that ATIF knows")
    if source.duration_sec is not None and (kind == "image" or source.duration_sec < 0):
        report(f"{place}.source.duration_sec", "is for audio only, and never negative")


_parts = _list_of(_part)
_content_field = _Field(_content, inner=True)


@dataclass(slots=True)
class Agent(_Object):
    """Who acts in a document. `tool_definitions` are OpenAI function-tool objects by convention (1.5)."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "name": _Field(_text, True),
        "version": _Field(_text, True),
        "model_name": _Field(_text),
        "tool_definitions": _Field(_list_of(_mapping)),
        "extra": _Field(_mapping),
    }
    name: str
    version: str
    model_name: str | None = None
    tool_definitions: list[dict[str, JSON]] | None = None
    extra: dict[str, JSON] | None = None


@dataclass(slots=True)
class ToolCall(_Object):
    """One call that the agent asks for. `extra` since 1.7."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "tool_call_id": _Field(_text, True),
        "function_name": _Field(_text, True),
        "arguments": _Field(_mapping, True),
        "extra": _Field(_mapping),
    }
    tool_call_id: str
    function_name: str
    arguments: dict[str, JSON]
    extra: dict[str, JSON] | None = None

    @property
    def dispatch(self) -> str | None:
        """What the call begins, a `Dispatch`, where it only refers to another conversation; None for a tool's."""
        begins = (self.extra or {}).get("dispatch")
        if isinstance(begins, str):
            return begins
        return "sub-agent" if self.tool_call_id.startswith(DISPATCH_ID) else None


@dataclass(slots=True)
class SubagentTrajectoryRef(_Object):
    """A pointer to a sub-agent's document; until 1.6 its key was `session_id`."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "trajectory_id": _Field(_text),
        "session_id": _Field(_text),
        "trajectory_path": _Field(_text),
        "extra": _Field(_mapping),
    }
    trajectory_id: str | None = None
    session_id: str | None = None
    trajectory_path: str | None = None
    extra: dict[str, JSON] | None = None


@dataclass(slots=True)
class ObservationResult(_Object):
    """What one call gave. `source_call_id` names a call of the same step."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "source_call_id": _Field(_text),
        "content": _content_field,
        "subagent_trajectory_ref": _Field(_list_of(_object(SubagentTrajectoryRef)), inner=True),
        "extra": _Field(_mapping),
    }
    source_call_id: str | None = None
    content: str | list[ContentPart] | None = None
    subagent_trajectory_ref: list[SubagentTrajectoryRef] | None = None
    extra: dict[str, JSON] | None = None


@dataclass(slots=True)
class Observation(_Object):
    """What the environment answered to a step."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "results": _Field(_list_of(_object(ObservationResult)), True, inner=True)
    }
    results: list[ObservationResult] = field(default_factory=list[ObservationResult])


@dataclass(slots=True)
class Metrics(_Object):
    """Tokens and cost of a step: `prompt_tokens` includes cached ones; `cached_tokens` are reads only."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "prompt_tokens": _Field(_whole),
        "completion_tokens": _Field(_whole),
        "cached_tokens": _Field(_whole),
        "cost_usd": _Field(_number),
        "prompt_token_ids": _Field(_list_of(_whole)),
        "completion_token_ids": _Field(_list_of(_whole)),
        "logprobs": _Field(_list_of(_number)),
        "extra": _Field(_mapping),
    }
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    prompt_token_ids: list[int] | None = None
    completion_token_ids: list[int] | None = None
    logprobs: list[float] | None = None
    extra: dict[str, JSON] | None = None


@dataclass(slots=True)
class Step(_Object):
    """One turn: a system prompt, a user's message, or an answer of the agent with what followed from it."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "step_id": _Field(_whole, True),
        "timestamp": _Field(_time),
        "source": _Field(_one_of("system", "user", "agent"), True),
        "model_name": _Field(_text),
        "reasoning_effort": _Field(_typed((str, int, float), "a string or a number")),
        "message": _Field(_content, True, inner=True),
        "reasoning_content": _Field(_text),
        "tool_calls": _Field(_list_of(_object(ToolCall)), inner=True),
        "observation": _Field(_object(Observation), inner=True),
        "metrics": _Field(_object(Metrics), inner=True),
        "is_copied_context": _Field(_flag),
        "llm_call_count": _Field(_count),
        "extra": _Field(_mapping),
    }
    step_id: int
    source: str
    message: str | list[ContentPart]
    timestamp: str | None = None
    model_name: str | None = None
    reasoning_effort: str | float | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    observation: Observation | None = None
    metrics: Metrics | None = None
    is_copied_context: bool | None = None
    llm_call_count: int | None = None
    extra: dict[str, JSON] | None = None


@dataclass(slots=True)
class FinalMetrics(_Object):
    """Sums over a document."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "total_prompt_tokens": _Field(_whole),
        "total_completion_tokens": _Field(_whole),
        "total_cached_tokens": _Field(_whole),
        "total_cost_usd": _Field(_number),
        "total_steps": _Field(_count),
        "extra": _Field(_mapping),
    }
    total_prompt_tokens: int | None = None
    total_completion_tokens: int | None = None
    total_cached_tokens: int | None = None
    total_cost_usd: float | None = None
    total_steps: int | None = None
    extra: dict[str, JSON] | None = None


def _children(value: Any, place: str, report: Report) -> Any:
    return _list_of(_object(Trajectory))(value, place, report)


@dataclass(slots=True)
class Trajectory(_Object):
    """One document; also each embedded sub-agent (1.7). `trajectory_id` is unique within a document."""

    _fields: ClassVar[Mapping[str, _Field]] = {
        "schema_version": _Field(_one_of(*VERSIONS), True),
        "session_id": _Field(_text),
        "trajectory_id": _Field(_text),
        "agent": _Field(_object(Agent), True, inner=True),
        "steps": _Field(_list_of(_object(Step), least=1), True, inner=True),
        "notes": _Field(_text),
        "final_metrics": _Field(_object(FinalMetrics), inner=True),
        "continued_trajectory_ref": _Field(_text),
        "extra": _Field(_mapping),
        "subagent_trajectories": _Field(_children, inner=True),
    }
    schema_version: str
    agent: Agent
    steps: list[Step]
    session_id: str | None = None
    trajectory_id: str | None = None
    notes: str | None = None
    final_metrics: FinalMetrics | None = None
    continued_trajectory_ref: str | None = None
    extra: dict[str, JSON] | None = None
    subagent_trajectories: list[Trajectory] | None = None

    @classmethod
    def from_json(cls, document: Any) -> Trajectory:
        """Read a document of any version; features of a later version than declared are let in.

        Raises:
            AtifError: the document breaks the schema; the message names the place.
        """
        found = _read(cls, document, "$", _refuse)
        if found is None:
            raise AtifError("$: expected a trajectory")
        _check_rules(found, "$", _refuse)
        return found


def schema_violations(document: Any) -> list[str]:
    """Return what breaks the schema in `document` (JSON), as every validator sees it. Empty is good."""
    problems: list[str] = []

    def report(place: str, wrong: str) -> None:
        problems.append(f"{place}: {wrong}")

    found = _read(Trajectory, document, "$", report)
    if found is not None and not problems:
        _check_rules(found, "$", report)
    return problems


def violations(document: Any) -> list[str]:
    """Return what keeps `document` (JSON) from the strict profile: the union of what all known readers want.

    The schema comes first; only a document that meets it is judged further. Empty is good.
    """
    problems = schema_violations(document)
    if problems:
        return problems

    def report(place: str, wrong: str) -> None:
        problems.append(f"{place}: {wrong}")

    _check_nulls(Trajectory, document, "$", report)
    trajectory = Trajectory.from_json(document)
    if not trajectory.session_id:
        report("$.session_id", "a document has a session")
    _check_profile(trajectory, "$", report)
    _check_identities(trajectory, report)
    return problems


# ── rules of the schema that go beyond one field


def _check_rules(trajectory: Trajectory, place: str, report: Report) -> None:
    for index, step in enumerate(trajectory.steps):
        here = f"{place}.steps[{index}]"
        if step.step_id != index + 1:
            report(f"{here}.step_id", f"expected {index + 1}, got {step.step_id}")
        _check_source(step, here, report)
        _check_results(step, here, report)
    seen: set[str] = set()
    for index, child in enumerate(trajectory.subagent_trajectories or []):
        here = f"{place}.subagent_trajectories[{index}]"
        if child.trajectory_id is None or child.trajectory_id in seen:
            report(f"{here}.trajectory_id", f"expected an id of its own, got {child.trajectory_id!r}")
        seen.add(child.trajectory_id or "")
        _check_rules(child, here, report)


def _check_source(step: Step, place: str, report: Report) -> None:
    if step.source != "agent":
        for name in AGENT_ONLY:
            if getattr(step, name) is not None:
                report(f"{place}.{name}", f"is for steps of the agent, not of the {step.source}")
    elif step.llm_call_count == 0 and (step.metrics is not None or step.reasoning_content is not None):
        report(place, "a step without a model call has no metrics and no reasoning")


def _check_results(step: Step, place: str, report: Report) -> None:
    known = {call.tool_call_id for call in step.tool_calls or []}
    for index, result in enumerate(step.observation.results if step.observation else []):
        here = f"{place}.observation.results[{index}]"
        if result.source_call_id is not None and result.source_call_id not in known:
            report(f"{here}.source_call_id", f"{result.source_call_id!r} is not the id of a call of this step")
        for number, ref in enumerate(result.subagent_trajectory_ref or []):
            if not (ref.trajectory_id or ref.trajectory_path or ref.session_id):
                report(f"{here}.subagent_trajectory_ref[{number}]", "points nowhere")


# ── the strict profile


def _check_nulls(cls: type[_Object], value: Mapping[str, Any], place: str, report: Report) -> None:
    for name in cls._fields:
        here = f"{place}.{name}"
        if name in value and value[name] is None:
            report(here, "is null; leave it out")
    for name, item_cls in _NESTED.get(cls, {}).items():
        item = value.get(name)
        here = f"{place}.{name}"
        items = {f"{here}[{at}]": each for at, each in enumerate(item)} if isinstance(item, list) else {here: item}
        for where, entry in items.items():
            if isinstance(entry, Mapping):
                _check_nulls(item_cls, cast("Any", entry), where, report)


_NESTED: dict[type[_Object], dict[str, type[_Object]]] = {
    Trajectory: {
        "agent": Agent,
        "steps": Step,
        "final_metrics": FinalMetrics,
        "subagent_trajectories": Trajectory,
    },
    Step: {
        "message": ContentPart,
        "tool_calls": ToolCall,
        "observation": Observation,
        "metrics": Metrics,
    },
    Observation: {"results": ObservationResult},
    ObservationResult: {"content": ContentPart, "subagent_trajectory_ref": SubagentTrajectoryRef},
    ContentPart: {"source": MediaSource},
}


def _check_profile(trajectory: Trajectory, place: str, report: Report) -> None:
    _check_agent(trajectory, place, report)
    _check_time(trajectory, place, report)
    for index, step in enumerate(trajectory.steps):
        here = f"{place}.steps[{index}]"
        _check_step(step, here, report)
        _check_calls(step, here, report)
        if step.metrics:
            _check_metrics(step.metrics, f"{here}.metrics", report)
    _check_totals(trajectory, place, report)
    _check_version(trajectory, place, report)
    for index, child in enumerate(trajectory.subagent_trajectories or []):
        _check_profile(child, f"{place}.subagent_trajectories[{index}]", report)


def _check_agent(trajectory: Trajectory, place: str, report: Report) -> None:
    if not trajectory.agent.name or not trajectory.agent.version:
        report(f"{place}.agent", "name and version are not empty")
    for index, tool in enumerate(trajectory.agent.tool_definitions or []):
        if not isinstance(tool.get("type"), str):
            report(f"{place}.agent.tool_definitions[{index}]", "has a `type`, as OpenAI's tool objects have")


def _check_time(trajectory: Trajectory, place: str, report: Report) -> None:
    last: datetime | None = None
    for index, step in enumerate(trajectory.steps):
        moment = moment_of(step.timestamp) if step.timestamp else None
        if moment is None:
            continue
        here = f"{place}.steps[{index}].timestamp"
        if moment.tzinfo is None:
            report(here, f"{step.timestamp!r} has no time zone")
            continue
        if last is not None and moment < last:
            report(here, f"{step.timestamp!r} is earlier than the step before")
        last = moment


def _check_step(step: Step, place: str, report: Report) -> None:
    if step.source == "user" and step.observation is not None:
        report(f"{place}.observation", "is for steps of the agent and the system")
    if step.source != "agent" and step.llm_call_count is not None:
        report(f"{place}.llm_call_count", "is for steps of the agent")
    if step.llm_call_count == 0 and not step.tool_calls and "answered_by" not in (step.extra or {}):
        report(place, "a step without a model call has a tool call, or `answered_by` in its `extra`")
    if step.is_copied_context and step.metrics is not None:
        report(f"{place}.metrics", "a copied step has none, else totals count it twice")
    for where, part in _media(step):
        if part.source is not None and (not part.source.path or part.source.path.startswith("data:")):
            report(f"{place}.{where}", "media belong in files, not in `data:` URLs")


def _check_calls(step: Step, place: str, report: Report) -> None:
    for index, call in enumerate(step.tool_calls or []):
        if not call.tool_call_id or not call.function_name:
            report(f"{place}.tool_calls[{index}]", "id and name are not empty")
    results = step.observation.results if step.observation else []
    answered = Counter(r.source_call_id for r in results if r.source_call_id)
    for call_id, count in answered.items():
        if count > 1:
            report(f"{place}.observation", f"call {call_id!r} has {count} results, at most one is right")


def _check_metrics(metrics: Metrics, place: str, report: Report) -> None:
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd"):
        value = getattr(metrics, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            report(f"{place}.{name}", f"expected a finite number from 0, got {value!r}")
    if metrics.cached_tokens is not None and metrics.cached_tokens > (metrics.prompt_tokens or 0):
        report(f"{place}.cached_tokens", "cannot be more than prompt_tokens")


_TOTALS = {
    "total_prompt_tokens": "prompt_tokens",
    "total_completion_tokens": "completion_tokens",
    "total_cached_tokens": "cached_tokens",
    "total_cost_usd": "cost_usd",
}


def _check_totals(trajectory: Trajectory, place: str, report: Report) -> None:
    """Let totals be no less than what the document's own steps add up to, and notes explain another number of steps.

    More is right: producers count what they embed, what they wrote elsewhere, and calls that were cut before a step.
    """
    totals = trajectory.final_metrics
    if totals is None:
        return
    here = f"{place}.final_metrics"
    if totals.total_steps not in (None, len(trajectory.steps)) and not trajectory.notes:
        report(f"{here}.total_steps", f"expected {len(trajectory.steps)}, got {totals.total_steps}")
    for name, source in _TOTALS.items():
        given, summed = getattr(totals, name), _summed(trajectory, source)
        if summed and (given is None or (given < summed and not math.isclose(given, summed, rel_tol=1e-9))):
            report(f"{here}.{name}", f"expected the sum over steps, {summed}, or more; got {given}")
        elif given is not None and not (math.isfinite(given) and given >= 0):
            report(f"{here}.{name}", f"expected a finite number from 0, got {given}")


def _summed(trajectory: Trajectory, name: str) -> float:
    """Return the sum of one metric over a document's own steps."""
    found = (getattr(step.metrics, name) for step in trajectory.steps if step.metrics is not None)
    return sum(value for value in found if value is not None)


def family(trajectory: Trajectory) -> Iterator[Trajectory]:
    """Yield a document and all that it embeds, itself first."""
    yield trajectory
    for child in trajectory.subagent_trajectories or []:
        yield from family(child)


def _media(step: Step) -> Iterator[tuple[str, ContentPart]]:
    contents = [("message", step.message)]
    for index, result in enumerate(step.observation.results if step.observation else []):
        contents.append((f"observation.results[{index}].content", result.content or ""))
    for where, content in contents:
        if not isinstance(content, str):
            for index, part in enumerate(content):
                yield f"{where}[{index}]", part


def _check_version(trajectory: Trajectory, place: str, report: Report) -> None:
    minor = VERSIONS.index(trajectory.schema_version)
    kinds = {part.type for step in trajectory.steps for _, part in _media(step)}
    needed = 8 if "audio" in kinds else 6 if "image" in kinds else 0
    if trajectory.subagent_trajectories or any(s.llm_call_count is not None for s in trajectory.steps):
        needed = max(needed, 7)
    if minor < needed:
        report(f"{place}.schema_version", f"{trajectory.schema_version!r} does not have what this document uses")


def _check_identities(root: Trajectory, report: Report) -> None:
    calls: Counter[str] = Counter()
    for document in family(root):
        calls.clear()
        calls.update(c.tool_call_id for step in document.steps for c in step.tool_calls or [])
        for call_id, count in calls.items():
            if count > 1:
                report("$", f"call id {call_id!r} appears {count} times in one document")
        _check_references(document, report)
    ids = Counter(document.trajectory_id for document in family(root) if document.trajectory_id)
    for trajectory_id, count in ids.items():
        if count > 1:
            report("$", f"trajectory id {trajectory_id!r} appears {count} times")


def _check_references(document: Trajectory, report: Report) -> None:
    children = {child.trajectory_id for child in document.subagent_trajectories or []}
    refs = [
        ref
        for step in document.steps
        for result in (step.observation.results if step.observation else [])
        for ref in result.subagent_trajectory_ref or []
    ]
    used = {ref.trajectory_id for ref in refs if ref.trajectory_id}
    for ref in refs:
        if not ref.trajectory_id and not ref.trajectory_path:
            report("$", f"a reference by session id {ref.session_id!r} alone cannot be resolved")
    for missing in sorted(str(name) for name in used - children):
        report("$", f"reference {missing!r} matches no embedded trajectory")
    for lost in sorted(str(name) for name in children - used):
        report("$", f"embedded trajectory {lost!r} is not referenced by any result")
