"""Refused tools that ran all the same: in a loop of the application's own, where no execution of ours was judged.

A request is not sent on with the result of such a call, nor with leave for the provider to make one. Nothing of an
answer is held back or changed.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, cast

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.answered import is_answered
from spanrelay.pipeline.middleware import Mode, Place, execution_intercept, request_intercept
from spanrelay.pipeline.model import offers_within
from spanrelay.plugins.keeping import renewed
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.approval import Approvals
from spanrelay.plugins.policy.history import WireHistory
from spanrelay.plugins.policy.limits import OnRefusal
from spanrelay.plugins.policy.names import normal, plain_text
from spanrelay.plugins.policy.settings import Tools
from spanrelay.records import ModelResponse, ToolCall, ToolCallResponse
from spanrelay.scopes import mark_span
from spanrelay.semconv.names import REFUSED_TOOL_CALL

UNSEEN = "unseen_tools"
"""What judges the results that requests bring, as a refusal names it."""
MAX_KNOWN = 4096
"""Calls that are remembered, of each sort."""
MAX_TURNS = 64
"""Turns at the end of a request that are looked at, or more, where the last answer stands before them."""
OFFERING = ("tools", "functions", "prompt", "previous_response_id", "conversation", "agent_id", "inputs")
"""Where a request may offer tools, or go on where some were offered; without, its answer asks for none."""

_log = logging.getLogger("spanrelay")


class Calls:
    """What a process knows of calls of tools, whatever policy is in force: it outlives a reload. Safe among threads.

    Attributes:
        refused: The refused calls of tools that answers asked for, by their ids.
        barred: Those of them whose results were to be refused already then, and neither told of nor tried, until it
            is seen what has become of them.
    """

    def __init__(self) -> None:
        self.refused: OrderedDict[str, ToolCall] = OrderedDict()
        self.barred: OrderedDict[str, None] = OrderedDict()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._nameless: OrderedDict[str, deque[int]] = OrderedDict()
        """When the tools of a name were executed for calls that nobody named."""
        self._since: OrderedDict[str, int] = OrderedDict()
        """When the request was sent whose answer asked for a call."""
        self._moments = count(1)
        self._allowed: OrderedDict[Hashable, None] = OrderedDict()
        self._executions: weakref.WeakSet[Any] = weakref.WeakSet()
        self.after_fork()
        renewed.add(self)

    def after_fork(self) -> None:
        """Take a lock that nobody holds."""
        self._lock = threading.RLock()

    def see(self, call: Any) -> None:
        """Remember an execution that policy is about to judge; that of several files sees each once."""
        tool = call.record.tool
        name = normal(plain_text(tool.name) or "")
        with self._lock:
            if call.root in self._executions:
                return
            self._executions.add(call.root)
            if tool.call_id:
                # With its name: some providers give calls of several answers the same id.
                _remember(self._seen, (tool.call_id, name), None)
            else:
                moments = self._nameless.get(name) or deque(maxlen=MAX_KNOWN)
                moments.append(self.moment())
                _remember(self._nameless, name, moments)

    def moment(self) -> int:
        """Return a number that is more each time."""
        return next(self._moments)

    def ask(self, call_id: str, asked: ToolCall, since: int, *, barred: bool) -> None:
        """Remember a call of a refused tool that a model has made, in answer to a request of the moment `since`."""
        with self._lock:
            _remember(self.refused, call_id, asked)
            _remember(self._since, call_id, since)
            if barred:
                _remember(self.barred, call_id, None)

    def allow(self, part: ToolCallResponse, name: str, by: str) -> None:
        """Remember that somebody has let a result pass, so that it does before `by` whenever it is sent again.

        What another judges, such as the policy of a file above, stays refused.
        """
        with self._lock:
            _remember(self._allowed, (by, _result_key(part, name), _content_of(part)), None)

    def is_allowed(self, part: ToolCallResponse, name: str, by: str) -> bool:
        """Whether somebody has let a result pass that `by` would refuse."""
        return (by, _result_key(part, name), _content_of(part)) in self._allowed

    def settle(self, call_id: str | None) -> None:
        """Let a call whose refusal has been seen be one of before, also when so many others were made since."""
        with self._lock:
            self.barred.pop(call_id or "", None)

    def is_seen(self, part: ToolCallResponse, name: str) -> bool:
        """Whether policy has judged the execution that a result came of, which then is what became of a refusal."""
        if part.id and (part.id, normal(name)) in self._seen:
            return True
        # An execution that named no call: it stands for one result, whenever that is sent again, of a call that the
        # model had made before.
        mine = _result_key(part, name)
        with self._lock:
            if mine in self._seen:
                return True
            moments = self._nameless.get(normal(name), ())
            since = self._since.get(part.id or "", 0)
            found = next((moment for moment in moments if moment > since), None)
            if found is None:
                return False
            cast("deque[int]", moments).remove(found)
            _remember(self._seen, mine, None)
            return True


class Loops:
    """Judges the results that requests bring, and marks the calls that answers ask for.

    Args:
        refusal: Returns why a call of a tool is refused, or None.
        config: Says what becomes of a result of one.
        calls: What the process knows of calls.
        approvals: Who may let a result pass.
        mode: Whether this is on trial.
        on_refusal: Whether somebody may let a result pass.
        name: What judges, as refusals name it.
    """

    def __init__(
        self,
        refusal: Callable[[ToolCall], str | None],
        config: Tools,
        calls: Calls,
        approvals: Approvals,
        mode: Mode | None,
        on_refusal: OnRefusal | None,
        name: str = UNSEEN,
    ) -> None:
        self._refusal, self._unseen, self._calls, self._approvals = refusal, config.unseen, calls, approvals
        self._mode: Mode | None = mode
        self._asks = approvals.asks(on_refusal, mode)
        self._judge = self._name = name
        self._bars = config.unseen == "refuse"
        self._warned: set[str] = set()

    def use(self, context: Context) -> None:
        """Register what sees executions before anything may refuse them, and what judges requests."""
        sees = request_intercept(name=f"seen_by_{self._judge}", kinds=["tool"], mode=self._mode)
        sends = execution_intercept(name=self._judge, kinds=["llm"], mode=self._mode, timeout=self._approvals.patience)
        self._name = f"{context.name}.{self._judge}"
        self._bars = self._bars and (self._mode or context.mode) != "observe"
        context.use(sees(self._see).standing(Place.AROUND))
        context.use(sends(self._send).standing(Place.REFUSES))

    def _see(self, call: Any) -> None:
        self._calls.see(call)

    def _send(self, call: Any) -> Generator[Any, Any, None]:
        wire = call.outgoing()
        approvals = getattr(call.codec, "approvals_in", None)
        if approvals is not None:
            yield from self._check_approvals(call, approvals(wire))
        if self._unseen != "pass":
            yield from self._check_results(call, wire)
        since = self._calls.moment()
        response = yield call
        reads = self._unseen != "pass" or approvals is not None
        if reads and (any(wire.get(key) for key in OFFERING) or offers_within(wire)):
            with guarded("reading which tools an answer asks for"):
                self._learn(call, response.record, since)

    def _check_approvals(
        self, call: Any, approvals: Iterable[tuple[str, ToolCall | None]]
    ) -> Generator[Any, Any, None]:
        """Refuse to let the provider run a refused tool: that is no result yet, whatever is said of those."""
        for call_id, told in approvals:
            asked = told or self._calls.refused.get(call_id)
            refusal = None if asked is None else self._refusal(asked)
            reason = refusal and f"the request approves the call {call_id!r} of a refused tool: {refusal}"
            if reason is not None and self._asks:
                reason = yield self._approvals.decide(call, reason, self._judge)
            if reason is not None:
                raise GuardrailRejected(reason, self._name)

    def _check_results(self, call: Any, wire: Mapping[str, Any]) -> Generator[Any, Any, None]:
        for part, asked in _new_results(WireHistory(wire, call.codec), self._calls):
            reason = self._reason(part, asked)
            if reason is not None and self._asks and self._unseen == "refuse":
                reason = yield self._approvals.decide(call, reason, self._judge)
                if reason is None:
                    self._calls.allow(part, asked.name, self._name)
            if reason is not None:
                self._tell(reason, asked.name)

    def _reason(self, part: ToolCallResponse, asked: ToolCall) -> str | None:
        refusal = self._refusal(asked)
        if refusal is None or self._calls.is_allowed(part, asked.name, self._name):
            return None
        if self._calls.is_seen(part, asked.name) or is_answered(part.id, asked.name):
            self._calls.settle(part.id)
            return None
        which = f" (call {part.id!r})" if part.id else ""
        return (
            f"the request has the result of a refused tool that ran where SpanRelay did not see it{which}: {refusal}; "
            "keep it from being offered (tools.offered), run it with run_tool, or write tools.unseen = 'warn'"
        )

    def _tell(self, reason: str, name: str) -> None:
        if self._unseen == "refuse":
            raise GuardrailRejected(reason, self._name)
        if name not in self._warned and len(self._warned) < MAX_KNOWN:
            self._warned.add(name)
            _log.warning("%s", reason)

    def _learn(self, call: Any, answer: ModelResponse, since: int) -> None:
        """Remember, and mark on the span, what an answer asks for that is refused."""
        approvals = getattr(call.codec, "approvals_asked", None)
        for asked in _asked_in(answer, approvals):
            refusal = self._refusal(asked)
            if refusal is not None:
                if asked.id:
                    self._calls.ask(asked.id, asked, since, barred=self._bars and not asked.server)
                told = {"tool_name": asked.name, "call_id": asked.id or "", "reason": refusal}
                mark_span(call.span, call.scope, REFUSED_TOOL_CALL, told)


def _asked_in(answer: ModelResponse, approvals: Callable[..., Iterator[ToolCall]] | None) -> Iterator[ToolCall]:
    """Yield the calls that wait for the client: to make them, or to approve them."""
    for message in answer.messages:
        yield from (each for each in message.tool_calls if not each.server)
        yield from () if approvals is None else approvals(message.parts)


def _result_key(part: ToolCallResponse, name: str) -> Hashable:
    """Return what a result of a tool is known by: some providers give calls of several answers the same id."""
    return "the result", part.id or _content_of(part), normal(name)


def _content_of(part: ToolCallResponse) -> int:
    return hash(_json.dumps(part.content))


def _remember(table: OrderedDict[Any, Any], key: Hashable, value: Any) -> None:
    table[key] = value
    table.move_to_end(key)
    while len(table) > MAX_KNOWN:
        table.popitem(last=False)


def _new_results(history: WireHistory, calls: Calls) -> Iterator[tuple[ToolCallResponse, ToolCall]]:
    """Yield the results that a request brings, each with the call that it is of, as far as that is known.

    New is what stands behind the last answer. Of the rounds before, those alone count whose calls are barred, so that a
    conversation from before goes on; an answer that the application has written itself hides none of these.
    """
    known = calls.refused
    results: list[tuple[ToolCallResponse, bool]] = []
    asked: dict[str | None, list[ToolCall]] = {}
    nameless: list[ToolCallResponse] = []
    by_place: dict[int, ToolCall] = {}
    begun = answered = False
    for number, turn in enumerate(history.backward()):
        if answered and number >= MAX_TURNS:
            break
        if turn.role == "tool":
            parts = [part for part in turn.parts if isinstance(part, ToolCallResponse)]
            results += [(part, not answered) for part in parts]
            nameless += [part for part in reversed(parts) if not part.id]
        elif turn.role == "assistant" and begun:  # what a request ends with is the beginning of its answer
            by_id: dict[str | None, list[ToolCall]] = {}
            for call in turn.calls:  # some providers give several calls of one answer the same id
                by_id.setdefault(call.id, []).append(call)
            asked = {**by_id, **asked}
            by_place |= _paired(nameless[::-1], [call for call in turn.calls if not call.id])
            nameless, answered = [], True
        # A result may come when the model has answered already: its call stands before that.
        known_all = all(part.id in asked for part, new in results if new and part.id)
        if answered and known_all and turn.role != "tool" and not turn.calls and not calls.barred:
            break
        begun = begun or turn.role != "assistant"
    for part, new in results:
        if not (new or part.id in calls.barred) or part.server:
            continue
        found = [known.get(part.id)] if part.id else [by_place.get(id(part))]
        calls_of = (asked.get(part.id) if part.id else None) or [call for call in found if call is not None]
        if part.name and (not calls_of or not (part.id or _is_of(part, calls_of[0]))):
            calls_of = [*calls_of, ToolCall(part.id, part.name, namespace=part.namespace)]
        for each in calls_of:
            yield part, each


def _paired(results: list[ToolCallResponse], calls: list[ToolCall]) -> dict[int, ToolCall]:
    """Return which call each of the results is of that have no ids, as those of some providers have none.

    A result may name its tool: it is of the first call of that one. Else the first result is that of the first call.
    """
    left, paired = list(calls), dict[int, ToolCall]()
    for part in results:
        call = next((call for call in left if part.name and _is_of(part, call)), None)
        if call is not None:
            left.remove(call)
            paired[id(part)] = call
    others = (part for part in results if id(part) not in paired)
    return paired | {id(part): call for part, call in zip(others, left, strict=False)}


def _is_of(part: ToolCallResponse, call: ToolCall) -> bool:
    return normal(plain_text(part.name) or "") == normal(plain_text(call.name) or "")
