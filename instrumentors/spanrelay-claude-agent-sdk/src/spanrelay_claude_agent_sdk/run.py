"""One run of the main agent: all that a query makes it do, or one turn of a client.

What it is given and what it ends with is the application's and the CLI's; everything between is below its span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from spanrelay import _json, semconv
from spanrelay._guard import guarded
from spanrelay.errors import MiddlewareError
from spanrelay.pipeline.call import Boundary, call_in_flight
from spanrelay.pipeline.function import AgentRun
from spanrelay.records import ErrorInfo, Part, SpanRecord
from spanrelay.scopes import current_scope
from spanrelay.tracing import Tracing, recording
from spanrelay_claude_agent_sdk.actors import agent_scope
from spanrelay_claude_agent_sdk.errands import Errand

NAME = "claude"
"""The name of the main agent: the SDK knows none."""

PREFIX = "claude_agent_sdk."
_SAID = {
    "num_turns": "num_turns",
    "duration_api_ms": "duration_api_ms",
    "subtype": "result",
    "terminal_reason": "terminal_reason",
}
_COUNTED = {
    "input_tokens": "usage.input_tokens",
    "output_tokens": "usage.output_tokens",
    "cache_read_input_tokens": "usage.cache_read_tokens",
    "cache_creation_input_tokens": "usage.cache_write_tokens",
}


class RunCall(AgentRun):
    """One run.

    Args:
        given: What the application says; None where nobody said anything.
        errand: The way to the CLI; None where the CLI has gone on by itself.
        session_id: The conversation, where it is known already.
        system: What the application tells the agent to be.
        tracing: Opens the spans.
    """

    __slots__ = ("_counted", "_ended_with", "_free", "_prompts", "_resulted", "_turns", "errand", "spent")

    def __init__(
        self, given: Any, errand: Errand | None, session_id: str | None, system: Sequence[Part], tracing: Tracing
    ) -> None:
        above = call_in_flight()
        scope = agent_scope(NAME, current_scope(), system)
        super().__init__(scope, given, cast("Boundary", errand), tracing)
        self.errand = errand
        self.spent = 0.0
        """What the session had cost before."""
        self._free = above is None or above.kind not in ("tool", "agent") or scope.session_id is None
        self._counted: dict[str, int] = {}
        self._turns = 0
        self._prompts: list[Any] = []
        self._resulted = False
        self._ended_with: Any = None
        if session_id is not None:
            self.belongs_to(session_id)

    def belongs_to(self, session_id: str) -> None:
        """Say which conversation it is part of, unless it is beneath a tool or an agent that says so."""
        if self._free and self.record.session_id != session_id:
            self.record.session_id = session_id
            self._say(semconv.write_start(SpanRecord(0, 0, session_id=session_id), recording.dialect))

    def is_told(self, said: Any) -> None:
        """Keep what a stream of prompts says: the one that there is, or all of them."""
        self._prompts.append(said)
        if self.observed:
            self.sent = _json.dumps(self._prompts[0] if len(self._prompts) == 1 else self._prompts)

    def runs_on(self, model: str) -> None:
        """Say which model the session has."""
        if self.record.request is not None and self.record.request.model is None:
            self.record.request.model = model
            self._say(semconv.write_start(SpanRecord(0, 0, request=self.record.request), recording.dialect))

    def results(self, message: Mapping[str, Any], cost: float, *, interrupted: bool) -> None:
        """Take what the CLI says at the end of a turn."""
        self._resulted = True
        with guarded("reading the result of a run"):
            self._say({PREFIX + name: message[key] for key, name in _SAID.items() if _is_plain(message.get(key))})
            self._say({PREFIX + "total_cost_usd": cost - self.spent})
            self._count(message)
            structured = message.get("structured_output")
            self._ended_with = message.get("result") if structured is None else structured
        if interrupted:
            self.record.incomplete = "cancelled"
        elif message.get("is_error"):
            self.record.error = ErrorInfo(str(message.get("subtype")), _error_in(message))
        else:
            self.record.error = None

    def _count(self, message: Mapping[str, Any]) -> None:
        """Add up what the turns of the run used: each result counts its own turn."""
        usage = message.get("usage")
        for key, name in _COUNTED.items():
            count = usage.get(key) if isinstance(usage, Mapping) else None
            if isinstance(count, int):
                self._counted[PREFIX + name] = self._counted.get(PREFIX + name, 0) + count
        turns = message.get("num_turns")
        self._turns += turns if isinstance(turns, int) else 0
        self._say({**self._counted, PREFIX + "num_turns": self._turns})

    def _say(self, attributes: Mapping[str, Any]) -> None:
        if self.span.is_recording():
            self.span.set_attributes(attributes)

    def left(self) -> None:
        """Nobody reads on; where that is after a result, nothing is missing."""
        if not self._resulted:
            self.record.incomplete = "closed"

    def ends(self, error: BaseException | None = None) -> None:
        """It is over; policy that stands around it is told so, in its own task."""
        if self.errand is not None:
            self.errand.tell(self._ended_with, error)
        elif error is None:
            self.gave(self._ended_with)
            self.finish()
        else:
            self.fail(error)

    async def settled(self) -> None:
        """Wait until policy is through with it."""
        if self.errand is not None:
            await self.errand.ended()

    async def ended(self) -> None:
        """As `settled`, for a run whose messages have all been read.

        Raises:
            BaseException: what policy raised.
            MiddlewareError: policy wants another answer than the one that has been read.
        """
        if self.errand is None:
            return
        await self.errand.ended()
        if self.errand.error is not None:
            raise self.errand.error
        if self.errand.result != self._ended_with:
            raise MiddlewareError(
                "the messages of a run have been read; policy can refuse a run or answer for it, and not change how "
                "it ended"
            )


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _error_in(message: Mapping[str, Any]) -> str:
    errors = message.get("errors")
    if isinstance(errors, list) and errors:
        return "; ".join(str(error) for error in cast("list[Any]", errors))
    return str(message.get("result") or "")
