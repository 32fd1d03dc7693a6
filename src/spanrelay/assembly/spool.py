"""The storage of a document while it grows: a file of small operations, one JSON a line, replayed into ATIF.

Every line is complete and handed to the operating system as it is written, so that a killed process loses the
open turn and nothing else; totals and notes are worked out on replay, never stored.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, cast

from spanrelay import _guard, _json
from spanrelay.assembly import atif
from spanrelay.assembly.steps import AGENT_SPAN, NEXT_REQUEST
from spanrelay.records import JSON

try:
    import fcntl
except ImportError:  # Windows: parts are then told apart by name only
    fcntl = None

SUFFIX = ".atif.part"
TEMPORARY = ".atif.tmp"
"""How the names of files end that appear under their own names once they are whole."""

WHOLE = b'{"op":"whole"}\n'
"""The line behind everything that a finished document says: nothing is missing where it is the last."""

Operation = dict[str, JSON]

NOTES = {
    "tool_span_without_llm_call": "Tools that ran without a model asking for them: {count}.",
    "missing_parent": "Spans whose parent was never seen: {count}.",
    "llm_unfinished": "Model calls that had not ended: {count}.",
    "tool_unfinished": "Tool calls that had not ended: {count}.",
    "context_changed": "Times the history that the model was sent had been rewritten: {count}.",
    "duplicate_call": "Model calls told by two instrumentations and written once: {count}.",
    "side_conversation": "Conversations beside the main one, which no tool call began: {count}.",
    "copied_context": "Turns of a history that came from elsewhere (no metrics): {count}.",
    "missing_history": "Messages that spans left out and no other had: {count}.",
    "dropped": "Steps left out because a bound was reached: {count}.",
}
"""What the codes of `note` operations say in a document's notes."""


def line_of(operation: Operation) -> bytes:
    """Return an operation as a line of a part."""
    return _json.dumps(operation) + b"\n"


class Spool:
    """One open part file, locked for as long as this process writes it.

    Errors of the file system are the caller's to handle; what could not be written can be written again.
    """

    __slots__ = ("_file", "_torn", "path", "size")

    def __init__(self, path: Path) -> None:
        self._file = create(path)
        self._torn = False
        self.path = path
        self.size = 0
        """Bytes written."""

    def write(self, lines: bytes) -> None:
        """Append whole lines, all of them or none."""
        left = memoryview(b"\n" + lines if self._torn else lines)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._take_back()
            raise
        self.size = os.fstat(self._file.fileno()).st_size if self._torn else self.size + len(lines)
        self._torn = False

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._file.fileno(), self.size)
        except OSError:
            self._torn = True  # what stands there is no line: the next one must not go on in it

    def __del__(self) -> None:
        """Let the file go in a forked child too, where nobody else does: it is the parent's to write."""
        with suppress(AttributeError):  # it could not be opened
            self._file.close()

    @property
    def gone(self) -> bool:
        """Whether somebody has removed the file: what is written to it is lost once it is closed."""
        return os.fstat(self._file.fileno()).st_nlink == 0

    def again(self) -> Spool:
        """Return a new file under the same name with all that has been written, in place of one that is gone."""
        other = Spool(self.path)
        try:
            with self._reading() as lines:
                for line in lines:
                    other.write(line)
        except OSError:
            other.close(remove=True)
            raise
        self.close()
        return other

    @contextmanager
    def _reading(self) -> Generator[io.BufferedReader[io.FileIO]]:
        """Read what has been written, also where the file is gone; writing goes to its end all the same."""
        self._file.seek(0)
        reader = io.BufferedReader(self._file)
        try:
            yield reader
        finally:
            reader.detach()

    def render(self, waiting: Iterable[bytes] = ()) -> dict[str, JSON] | None:
        """Return the document so far, and with the lines that wait to be written, or None while it has no steps."""
        with self._reading() as lines:
            return replayed(chain(lines, waiting))

    def close(self, *, remove: bool = False) -> None:
        """Let the file go; `remove` where its document stands elsewhere now."""
        if remove:
            self.path.unlink(missing_ok=True)
        self._file.close()


def create(path: Path) -> io.FileIO:
    """Create a file for its owner alone, locked until it is closed or this process ends.

    Raises:
        FileExistsError: it exists.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        file = io.FileIO(handle, "r+")
        lock(file, wait=True)  # where files cannot be locked, nobody takes it for abandoned either
        if os.fstat(handle).st_nlink:
            return file
        file.close()  # somebody who tidies up found it before it was locked, and has removed it


def lock(file: io.FileIO, *, wait: bool = False) -> bool:
    """Take the lock that says a live process writes a file; False where another holds it, or none can."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def is_written(part: Path) -> bool:
    """Whether a live process writes a file, or that cannot be told: it is asked by a shared lock, held for no time."""
    if fcntl is None:
        return True
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def render(part: Path, *, tell: bool = True) -> dict[str, JSON] | None:
    """Replay a part file into a complete document; None where no step was finished.

    A torn last line, as a killed process leaves it, is left out. Without `tell`, what is wrong with a line is not said:
    whoever only looks at the file of somebody else has failed at nothing.
    """
    with part.open("rb") as lines:
        return replayed(lines, tell=tell)


def replayed(lines: Iterable[bytes], *, tell: bool = True) -> dict[str, JSON] | None:
    """Return the document that lines build up, or None where it has no steps."""
    return replay(_operations(lines), tell=tell)


def masked_medium(data: bytes, mask: Callable[[bytes], bytes] | None) -> bytes:
    """Return a medium without what `mask` takes out: a text holds keys as messages do, and an image stays as it is."""
    if mask is None:
        return data
    try:
        data.decode()
    except UnicodeDecodeError:
        return data
    return mask(data)


def path_of_media(data: bytes, folder: str, extension: str) -> str:
    """Return where media are kept beside a document: under the name of their hash."""
    return f"{folder}/{hashlib.sha256(data).hexdigest()}{extension}"


def is_whole(part: Path) -> bool:
    """Whether a part's document said all that there was to say when it was last written."""
    with part.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(WHOLE)))
        return file.read() == WHOLE


def is_damaged(part: Path) -> bool:
    """Whether a part has a line that no process has written like that, and none was killed in the middle of."""
    with part.open("rb") as lines:
        return any(line.endswith(b"\n") and not _is_read(line) for line in lines)


def _is_read(line: bytes) -> bool:
    try:
        _json.loads(line)
    except ValueError:
        return False
    return True


def _operations(lines: Iterable[bytes]) -> Iterator[Operation]:
    for line in lines:
        try:
            operation = _json.loads(line)
        except ValueError:
            _guard.losses.add("incomplete spool lines")
            continue
        if isinstance(operation, dict) and str(operation.get("op")) in _APPLY:
            yield cast("Operation", operation)
        else:
            _guard.losses.add("spool lines that are no operation")


def orphans(directory: Path, pattern: str = f"*{SUFFIX}") -> Iterator[Path]:
    """Yield the part files in `directory` whose process has died. None where files cannot be locked.

    Each is locked until the next is asked for, so that it can be removed without harm to a process that begins.
    """
    if fcntl is None:
        return
    for path in _found(directory, pattern):
        try:
            # Never through a link, nor waiting for the other end of a pipe: the folder may be shared.
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            with io.FileIO(handle, "r+") as file:
                if stat.S_ISREG(os.fstat(handle).st_mode) and lock(file):
                    yield path
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EACCES, errno.EPERM):  # it is another user's
                _guard.swallow("looking for unfinished trajectories", error)


def _found(directory: Path, pattern: str) -> list[Path]:
    try:
        return sorted(directory.glob(pattern))
    except OSError:  # a name that is too long, for instance; who writes there says so
        return []


# ── replay


@dataclass(slots=True)
class _Draft:
    """One document on its way: header fields, steps, and where in its parent it hangs."""

    head: dict[str, Any]
    steps: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    parent: str | None = None
    step: int | None = None
    call: str | None = None
    notes: Counter[str] = field(default_factory=Counter[str])
    questions: list[tuple[int, dict[str, Any]]] = field(default_factory=list[tuple[int, dict[str, Any]]])
    """What became known only later, and the step before which it was said."""


def replay(operations: Iterable[Operation], *, tell: bool = True) -> dict[str, JSON] | None:
    """Return the document that `operations` build up, or None where it has no steps."""
    drafts: dict[str, _Draft] = {}
    for operation in operations:
        with _guard.guarded("reading an unfinished trajectory line by line") if tell else suppress(Exception):
            _APPLY[operation["op"]](drafts, operation)
    roots = [draft for draft in drafts.values() if draft.parent is None]
    if not roots:
        return None
    document = _finish(roots[0], drafts)
    if document is not None:
        _set_version(document)
    return document


def _open(drafts: dict[str, _Draft], operation: Operation) -> None:
    drafts[operation["doc"]] = _Draft(dict(operation["head"]), parent=operation.get("parent"))


def _base(drafts: dict[str, _Draft], operation: Operation) -> None:
    """Start from a document written before: it is taken apart again into drafts."""
    _take_apart(drafts, operation["document"], None)


def _take_apart(drafts: dict[str, _Draft], document: dict[str, Any], parent: str | None) -> None:
    name = document["trajectory_id"]
    derived = ("steps", "subagent_trajectories", "final_metrics", "notes")
    draft = _Draft({k: v for k, v in document.items() if k not in derived}, document["steps"], parent)
    extra = draft.head.get("extra") or {}
    for warning in extra.pop("conversion", {}).get("warnings", []):
        draft.notes[warning["code"]] = warning["count"]
    _take_questions(draft)
    drafts[name] = draft
    for child in document.get("subagent_trajectories", []):
        _take_apart(drafts, child, name)
    for number, step in enumerate(draft.steps, start=1):
        for result in step.get("observation", {}).get("results", []):
            for ref in result.pop("subagent_trajectory_ref", []):
                child = drafts[ref["trajectory_id"]]
                child.step, child.call = number, result["source_call_id"]


def is_document(document: Any) -> bool:
    """Whether what a file holds, which anybody may have written, can be the base of more. It is taken apart."""
    drafts: dict[str, _Draft] = {}
    try:
        _take_apart(drafts, document, None)
        return _finish(next(iter(drafts.values())), drafts) is not None
    except Exception:  # whatever it lacks
        return False


def _step(drafts: dict[str, _Draft], operation: Operation) -> None:
    drafts[operation["doc"]].steps.append(operation["step"])


def _question(drafts: dict[str, _Draft], operation: Operation) -> None:
    """Keep what goes before a step that stands already; only the finished document counts it."""
    drafts[operation["doc"]].questions.append((operation["before"], operation["step"]))


def _result(drafts: dict[str, _Draft], operation: Operation) -> None:
    """Put a result beside its call; what it says wins over what was known, the rest stays."""
    step = drafts[operation["doc"]].steps[operation["step"] - 1]
    given = operation["result"]
    results = step.setdefault("observation", {"results": []})["results"]
    for known in results:
        if known.get("source_call_id") == given["source_call_id"]:
            _merge(known, given)
            return
    _insert(step, given)


def _insert(step: dict[str, Any], result: dict[str, Any]) -> None:
    """Add a result to a step, in the order of its calls."""
    order = {call["tool_call_id"]: index for index, call in enumerate(step.get("tool_calls", []))}

    def place(item: dict[str, Any]) -> int:
        return order.get(item["source_call_id"], len(order))

    step["observation"]["results"].append(result)
    step["observation"]["results"].sort(key=place)


def _patch(drafts: dict[str, _Draft], operation: Operation) -> None:
    """Merge fields into a step, or into the document's header where no step is named."""
    draft = drafts[operation["doc"]]
    number = operation.get("step")
    _merge(draft.steps[number - 1] if number else draft.head, operation["set"])


def _merge(target: dict[str, Any], given: dict[str, Any]) -> None:
    """Set what is given in `target`, and take away what is given as None."""
    for name, value in given.items():
        known = target.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(cast("dict[str, Any]", known), cast("dict[str, Any]", value))
        elif value is None:
            target.pop(name, None)
        else:
            target[name] = value


def _tools(drafts: dict[str, _Draft], operation: Operation) -> None:
    agent = drafts[operation["doc"]].head["agent"]
    agent.setdefault("tool_definitions", []).extend(operation["tools"])


def _link(drafts: dict[str, _Draft], operation: Operation) -> None:
    draft = drafts[operation["doc"]]
    draft.parent, draft.step, draft.call = operation["parent"], operation["step"], operation["call"]


def _rename(drafts: dict[str, _Draft], operation: Operation) -> None:
    """Give a call the id that requests use for it."""
    step = drafts[operation["doc"]].steps[operation["step"] - 1]
    old, new = operation["call"], operation["to"]
    for call in step["tool_calls"]:
        if call["tool_call_id"] == old:
            call["tool_call_id"] = new
            call.setdefault("extra", {})["original_tool_call_id"] = old
    for result in step.get("observation", {}).get("results", []):
        if result["source_call_id"] == old:
            result["source_call_id"] = new
    for draft in drafts.values():
        if (draft.parent, draft.step, draft.call) == (operation["doc"], operation["step"], old):
            draft.call = new


def _demote(drafts: dict[str, _Draft], operation: Operation) -> None:
    """Make what the document was so far a child of it: it was not the main conversation after all."""
    name, child = operation["doc"], operation["child"]
    draft = drafts[name]
    for other in drafts.values():
        if other.parent == name:
            other.parent = child
    head = {**operation["head"], "agent": {**draft.head["agent"], **operation["head"]["agent"]}}
    drafts[child] = _Draft(head, draft.steps, name, 1, operation["call"], draft.notes, draft.questions)
    draft.steps, draft.notes, draft.questions = [operation["step"]], Counter(), []
    draft.head["agent"] = operation["agent"]


def _note(drafts: dict[str, _Draft], operation: Operation) -> None:
    drafts[operation["doc"]].notes[operation["code"]] += operation.get("count", 1)


_APPLY: dict[str, Callable[[dict[str, _Draft], Operation], None]] = {
    "open": _open,
    "base": _base,
    "step": _step,
    "question": _question,
    "result": _result,
    "patch": _patch,
    "tools": _tools,
    "link": _link,
    "rename": _rename,
    "demote": _demote,
    "note": _note,
    "whole": lambda drafts, operation: None,
}


# ── from drafts to documents


def _finish(draft: _Draft, drafts: dict[str, _Draft]) -> dict[str, Any] | None:
    """Return a draft as a document with its children, or None where it has no steps."""
    name = draft.head["trajectory_id"]
    below = [other for other in drafts.values() if other.parent == name]
    found = [(child, finished) for child in below if (finished := _finish(child, drafts)) is not None]
    _order_fans(draft, found)
    for child, finished in found:
        _refer(draft, child, finished)
    children = [finished for _, finished in found]
    if not draft.steps:
        return None
    steps = [_ordered(atif.Step, {**step, "step_id": at}) for at, step in enumerate(_with_questions(draft), start=1)]
    document: dict[str, Any] = {"schema_version": atif.DEFAULT_VERSION, **draft.head, "steps": steps}
    _add_totals(document, children)
    _add_notes(document, draft, bool(children))
    if children:
        document["subagent_trajectories"] = children
    return _ordered(atif.Trajectory, document)


def _with_questions(draft: _Draft) -> list[dict[str, Any]]:
    """Return the steps of a draft with what is kept apart from them; what names a step by its number goes along."""
    if not draft.questions:
        return draft.steps
    # Of agents within each other the outer one ends last, and was asked first.
    waiting = sorted(draft.questions, key=lambda question: (question[0], question[1]["timestamp"]))
    steps: list[dict[str, Any]] = []
    places: dict[int, int] = {}
    for number, step in enumerate(draft.steps, start=1):
        while waiting and waiting[0][0] <= number:
            steps.append(_between(steps, waiting.pop(0)[1], step))
        steps.append(step)
        places[number] = len(steps)
    for _, question in waiting:
        steps.append(_between(steps, question, {}))
    return [_renumbered(step, places) for step in steps]


def _take_questions(draft: _Draft) -> None:
    """Take out again what `_with_questions` has put in."""
    steps = draft.steps
    draft.steps = []
    places: dict[int, int] = {}
    for number, step in enumerate(steps, start=1):
        if step["source"] != "agent" and _extra(step).get("message_source") in (AGENT_SPAN, NEXT_REQUEST):
            draft.questions.append((len(draft.steps) + 1, step))
        else:
            draft.steps.append(step)
            places[number] = len(draft.steps)
    if draft.questions:
        draft.steps = [_renumbered(step, places) for step in draft.steps]


def _between(before: list[dict[str, Any]], step: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return a step with a time that is not before the step before it, nor after the one behind."""
    time = max(step["timestamp"], _time_of(before, -1) or "")
    return {**step, "timestamp": min(time, after.get("timestamp") or time)}


def _renumbered(step: dict[str, Any], places: dict[int, int]) -> dict[str, Any]:
    """Return a step whose references to others follow them to where `places` has them now."""
    extra = _extra(step)
    moved = {name: places[extra[name]] for name in ("retry_of_step", "same_as_step") if extra.get(name) in places}
    if all(extra[name] == number for name, number in moved.items()):
        return step
    step = {**step, "extra": {**extra, **moved}}
    if "same_as_step" in moved:
        step["message"] = atif.same_again(moved["same_as_step"])
    return step


_Found = list[tuple[_Draft, dict[str, Any]]]


def _order_fans(draft: _Draft, found: _Found) -> None:
    """Put conversations that were begun beside each other in the order of what they say: threads have none."""
    groups: dict[int, _Found] = {}
    for child, finished in found:
        calls: list[dict[str, Any]] = draft.steps[child.step - 1].get("tool_calls", []) if child.step else []
        group = next((c["extra"]["fan_out"] for c in calls if "fan_out" in c.get("extra", {})), None)
        if group is not None:
            groups.setdefault(group, []).append((child, finished))
    for group in groups.values():
        places = sorted(cast("int", child.step) for child, _ in group)
        moved = [
            (place, draft.steps[cast("int", child.step) - 1], child)
            for place, (child, _) in zip(places, sorted(group, key=_said), strict=True)
        ]
        times = [draft.steps[place - 1].get("timestamp") for place in places]
        for (place, step, child), time in zip(moved, times, strict=True):
            draft.steps[place - 1] = step if time is None else {**step, "timestamp": time}
            child.step = place
    if groups:
        found.sort(key=lambda pair: pair[0].step or len(draft.steps))


def _said(pair: tuple[_Draft, dict[str, Any]]) -> str:
    """Return what a conversation says, without ids and times."""
    return _json.dumps_sorted([[step["source"], step["message"], step.get("model_name")] for step in pair[1]["steps"]])


def _ordered(kind: type[atif.Step] | type[atif.Trajectory], given: dict[str, Any]) -> dict[str, Any]:
    """Return an object with its fields in the order of the schema: readers see text files."""
    return {name: given[name] for name in kind.fields() if name in given}


def _refer(draft: _Draft, child: _Draft, document: dict[str, Any]) -> None:
    """Point to a child from the result of the call that started it, with a text for readers beside it."""
    if child.step is None:
        _dispatch(draft, child, document)
    step = draft.steps[cast("int", child.step) - 1]
    results = step.setdefault("observation", {"results": []})["results"]
    found: dict[str, Any] = next((r for r in results if r["source_call_id"] == child.call), {})
    if not found:
        found["source_call_id"] = child.call
        _insert(step, found)
    if "content" not in found:
        found["content"] = _last_words(document)
    ref: dict[str, Any] = {"trajectory_id": document["trajectory_id"]}
    if document.get("session_id"):
        ref["session_id"] = document["session_id"]
    found.setdefault("subagent_trajectory_ref", []).append(ref)


def _dispatch(draft: _Draft, child: _Draft, document: dict[str, Any]) -> None:
    """Add a step for a child whose starting call never ended, so that every child is referred to."""
    child.call, child.step = f"{atif.DISPATCH_ID}{document['trajectory_id']}", len(draft.steps) + 1
    call: dict[str, Any] = {"tool_call_id": child.call, "function_name": document["agent"]["name"]}
    call.update(arguments={}, extra={"dispatch": "sub-agent"})
    step: dict[str, Any] = {"source": "agent", "message": "", "llm_call_count": 0, "tool_calls": [call]}
    times = [t for t in (_time_of(draft.steps, -1), _time_of(document["steps"], 0)) if t]
    if times:
        step["timestamp"] = max(times)
    draft.steps.append({"step_id": 0, **step})


def _time_of(steps: list[dict[str, Any]], index: int) -> str | None:
    return steps[index].get("timestamp") if steps else None


def _last_words(document: dict[str, Any]) -> str:
    """Return what a child ended with, for readers that do not open children."""
    for step in reversed(document["steps"]):
        if step["source"] != "agent":
            continue
        error = _extra(step).get("error")
        if error:
            return f"[failed: {error['type']}: {error['message']}]"
        if isinstance(step["message"], str) and step["message"]:
            return step["message"]
        called = ", ".join(call["function_name"] for call in step.get("tool_calls", []))
        return f"[called {called}]" if called else "[no text]"
    return "[no answer]"


_SUMS = ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_usd")


def _add_totals(document: dict[str, Any], children: list[dict[str, Any]]) -> None:
    """Sum over the document's own steps and its children: readers look at the root's totals only."""
    calls = [step for step in document["steps"] if step.get("llm_call_count") and "error" not in _extra(step)]
    metrics = [step["metrics"] for step in document["steps"] if "metrics" in step]
    own = _sum(metrics, _SUMS)
    totals = _sum([own, *[_untotal(child["final_metrics"]) for child in children]], _SUMS)
    final: dict[str, Any] = {f"total_{name}": value for name, value in totals.items()}
    final["total_steps"] = len(document["steps"])
    extra: dict[str, Any] = {}
    if children:
        extra = {"own": own, "subagents": _sum([_untotal(c["final_metrics"]) for c in children], _SUMS)}
    reported = sum(1 for step in calls if "metrics" in step)
    if 0 < reported < len(calls):
        extra["usage_coverage"] = f"{reported}/{len(calls)} calls"
    if extra:
        final["extra"] = extra
    document["final_metrics"] = final


def _extra(step: dict[str, Any]) -> dict[str, Any]:
    return step.get("extra") or {}


def _untotal(final: dict[str, Any]) -> dict[str, Any]:
    return {name: final[f"total_{name}"] for name in _SUMS if f"total_{name}" in final}


def _sum(items: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the sums of the named numbers; a number that nothing reports has none."""
    sums: dict[str, Any] = {}
    for item in items:
        for name in names:
            if item.get(name) is not None:
                sums[name] = sums.get(name, 0) + item[name]
    return sums


def _add_notes(document: dict[str, Any], draft: _Draft, children: bool) -> None:
    notes = sorted((+draft.notes).items())  # those that are not taken back
    sentences = [NOTES[code].format(count=count) for code, count in notes]
    if children:
        sentences.append("Totals include the embedded conversations.")
    if sentences:
        document["notes"] = " ".join(sentences)
    if notes:
        warnings = [{"code": code, "count": count} for code, count in notes]
        document["extra"] = {**(document.get("extra") or {}), "conversion": {"warnings": warnings}}


def _set_version(document: dict[str, Any]) -> None:
    """Declare 1.8 where it is asked for or sounds need it, in all of a document."""
    version = "ATIF-v1.8" if _has_audio(document) else document["schema_version"]
    for each in _family(document):
        each["schema_version"] = version


def _family(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield document
    for child in document.get("subagent_trajectories", []):
        yield from _family(child)


def _has_audio(document: dict[str, Any]) -> bool:
    contents = [
        content
        for each in _family(document)
        for step in each["steps"]
        for content in (
            step["message"],
            *[r.get("content") for r in step.get("observation", {}).get("results", [])],
        )
    ]
    return any(part["type"] == "audio" for content in contents if isinstance(content, list) for part in content)
