"""Which session a call belongs to, as trajectories tell it: what has a name, what one trace holds, or a conversation.

A call that cannot be told to go on in anything is a session of its own.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator, Mapping
from typing import Any, cast
from uuid import uuid4

from spanrelay._guard import guarded
from spanrelay.assembly.conversations import Conversations, Question, question_of
from spanrelay.pipeline.middleware import Place, execution_intercept
from spanrelay.plugins.keeping import renewed
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.policy.history import MESSAGE_FIELDS, WireHistory
from spanrelay.records import ModelRequest, ModelResponse
from spanrelay.scopes import Scope

MAX_CONVERSATIONS = 10_000
"""Conversations that can still go on."""


class Sessions:
    """Tells the sessions of calls, and learns from their answers. Safe among threads."""

    def __init__(self) -> None:
        self._conversations: Conversations[str] = Conversations(MAX_CONVERSATIONS)
        self._asked: weakref.WeakKeyDictionary[Any, tuple[str, Question]] = weakref.WeakKeyDictionary()
        self.after_fork()
        renewed.add(self)

    def after_fork(self) -> None:
        """Take a lock that nobody holds, and be no more taken for the parent."""
        self._process = uuid4().hex
        self._lock = threading.RLock()

    def use(self, context: Context) -> None:
        """Register what learns from answers, around everything that may change them."""
        # Before the priority of what else is around, such as rails that change an answer.
        follows = execution_intercept(name="sessions", kinds=["llm"], priority=0)(self._follow)
        context.use(follows.standing(Place.AROUND))

    def of(self, call: Any) -> str:
        """Return the key of a call's session: the same for all its sendings."""
        name = _session_name(call)
        if name is not None:
            return f"session {name}"
        trace = call.span.get_span_context().trace_id
        if trace and call.beneath:
            return _trace_key(trace)
        if not trace and call.scope is not None:
            return self._of_scope(call.scope)
        if call.kind == "tool":
            request = call.request
            with self._lock:
                known = self._conversations.of_call(request.name, request.arguments, request.call_id)
            return known or _trace_key(trace)
        return self._of_conversation(call, trace) if call.record.kind == "llm" else _trace_key(trace)

    def _of_scope(self, scope: Scope) -> str:
        """Where OpenTelemetry is switched off there are no traces, and scopes all the same."""
        while scope.parent is not None:
            scope = scope.parent
        return f"scope {self._process} {id(scope)} {scope.started}"

    def _of_conversation(self, call: Any, trace: int) -> str:
        with self._lock:
            known = self._asked.get(call.root)
            if known is None:
                question = _question(call)
                key = self._conversations.find(question) or _trace_key(trace)
                self._conversations.begin(key)
                known = self._asked[call.root] = key, question
        return known[0]

    def _follow(self, call: Any) -> Generator[Any, Any, None]:
        self.of(call)
        asked = self._asked.get(call.root)
        if asked is None:
            yield call
            return
        answer: ModelResponse | None = None
        try:
            response = yield call
            with guarded("reading an answer for the next request"):
                answer = response.record
        finally:  # also where the consumer has left a stream
            with self._lock:
                self._conversations.tell(*asked, answer)


def _session_name(call: Any) -> str | None:
    """The name of a call's session; of one within another it is the outer one's, which so cannot be left."""
    name, scope = call.record.session_id, call.scope
    while scope is not None:
        name, scope = scope.session_id or name, scope.parent
    return str(name) if name else None


def _trace_key(trace: int) -> str:
    """The key of a trace; without one, as where OpenTelemetry is switched off, nothing else is of the same."""
    return f"trace {trace:032x}" if trace else f"call {uuid4().hex}"


def _question(call: Any) -> Question:
    wire: Mapping[str, Any] = call.outgoing()
    parameters = {name: value for name, value in wire.items() if name not in (*MESSAGE_FIELDS, "tools")}
    request = cast("ModelRequest", call.codec.decode_request(parameters))
    return question_of(WireHistory(wire, call.codec), request)
