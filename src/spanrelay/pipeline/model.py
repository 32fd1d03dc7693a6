"""A call of a model: its request as the provider's JSON, editable as a record, and the bytes of its answer.

What went over the wire is kept as bytes and decoded later, by whoever reads the record first. Policy has its say
where a request is sent, unless the very request was judged at the framework's call above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from spanrelay import _json
from spanrelay._guard import failed, pass_on
from spanrelay._json import clean_text
from spanrelay.codecs import Codec, may_say_failed
from spanrelay.codecs.narrowing import as_list
from spanrelay.codecs.offers import Offer
from spanrelay.conversation import read_request
from spanrelay.errors import MiddlewareError
from spanrelay.pipeline.backlog import Remainder, backlog
from spanrelay.pipeline.call import CALL_KEY, NO_CONTEXT, Boundary, Call, Lent, Opened, Response, Taken
from spanrelay.pipeline.identity import Identity
from spanrelay.pipeline.middleware import is_covered
from spanrelay.pipeline.stream import read_frames
from spanrelay.records import Kind, ModelRequest, ModelResponse, PromptTemplate, SpanRecord
from spanrelay.scopes import place_now
from spanrelay.semconv.names import span_name
from spanrelay.tracing import Start, Tracing, heard, leave_out, take

if TYPE_CHECKING:
    from spanrelay.pipeline.stream import Arrived

_LET_GO: Mapping[str, Any] = {}
"""The request of a call that has ended: it is in the record."""
_SAID_OTHERWISE = frozenset(
    {"messages", "input", "prompt", "instructions", "system", "stream", "stream_options", "encoding_format"}
)
"""What a framework and a provider's SDK word each in its own way, though they mean the same request."""


class ModelCall(Call):
    """A request to a model as wire JSON.

    `sent` and `body` are the bytes of request and response; `body` of a stream is made from its chunks.
    """

    kind: ClassVar[Kind] = "llm"
    answer_type: ClassVar[type] = ModelResponse

    __slots__ = (
        "_above",
        "_answered_failure",
        "_asked_again",
        "_copied",
        "_judged",
        "_judged_above",
        "_lender",
        "_paid",
        "_provider",
        "_remainder",
        "_request",
        "_shown",
        "_streamed",
        "_turn",
        "_wire",
        "body",
        "carried",
        "codec",
        "http_status",
        "lends_plainly",
        "made_of",
        "model_kept",
        "named_beside",
        "offered_beside",
        "only_marked",
        "original",
        "replayed",
        "sent",
        "unreadable",
        "url_model",
    )

    def __init__(
        self,
        codec: Codec,
        wire: Mapping[str, Any],
        boundary: Boundary,
        tracing: Tracing,
        *,
        provider: str,
        kind: Kind = "llm",
        opened: Opened | None = None,
    ) -> None:
        model = wire.get("model")
        if type(model) is not str:
            model = text_of(model)
        operation = codec.operation
        record = SpanRecord(0, 0, name=span_name(kind, operation, model), kind=kind, operation=operation)
        record.provider = provider
        record.request = ModelRequest(model, stream=bool(wire.get("stream")))
        super().__init__(record, boundary, tracing, opened)
        self._turn: list[bool] | None = None
        self._paid: list[object] | None = None
        self._provider: ModelCall | None = None
        self.made_of: PromptTemplate | None = None
        """What a framework's messages were made of, where it knows."""
        self.lends_plainly = False
        """Whether one that lends is no conversation, so that what it asks beneath is none either."""
        self._lender: Any = opened.lender if opened is not None else None
        self._above: Any = opened.above if opened is not None else None
        self._judged_above = False
        self._answered_failure = False
        self._asked_again = False
        """Whether another provider call was made for the same call of a framework after the one that fills its span."""
        self.codec = codec
        self.original = wire
        self.named_beside: tuple[Any, ...] = ()
        """Models that the request names in its query too."""
        self.offered_beside: tuple[Offer, ...] = ()
        """Tools that its files offer."""
        self.model_kept = False
        """Whether a model that the request does not name is one that the provider keeps, as that of an assistant."""
        self.url_model: Callable[[ModelCall], str | None] | None = None
        """Returns the model that the URL names, which runs whatever the body says."""
        self.unreadable: str | None = None
        """Why nobody can say what the body asks for, where that is so."""
        if self._lender is not None:
            self._lender._provider = self
            self.exempt = self._judged_above = self._lender.governed and self._is_what_was_judged(self._lender)
            if self._judged_above:
                self._paid, self._lender._paid = self._lender._paid, None
        elif self._above is not None:
            self._above._asked_again = True
        self.sent: bytes | None = None
        self._remainder: Remainder | None = None
        self._shown = False
        self.body: bytes | None = None
        self.http_status: int | None = None
        """The status of the HTTP answer, where it was seen."""
        self._wire: Mapping[str, Any] | None = None
        self._copied: bytes | None = None
        self.replayed: tuple[Mapping[str, Any], list[dict[str, Any]]] | None = None
        """An answer that middleware gives again, and the events that it came in."""
        self.only_marked = False
        """Whether it is sent with the application's own objects, and marks beside them."""
        self.carried: Mapping[str, str] | None = None
        """Headers that go with what is sent, and change nothing that a model sees; the caller's own win."""
        self._request: ModelRequest | None = None
        self._judged: Mapping[str, Any] = wire

    @property
    def lends(self) -> bool:
        """Whether this is a framework's call, whose span the first provider call beneath it fills."""
        return self._turn is not None

    @lends.setter
    def lends(self, value: bool) -> None:
        self._turn = [True] if value else None

    def count_once(self) -> None:
        """Let a sending count once that is seen here and at a call beneath or above, each of which has a span."""
        above = place_now().get(CALL_KEY)
        self._above = above if isinstance(above, ModelCall) and above.lends else None
        self._turn = []

    def lend(self) -> bool:
        """Give the span away, unless a call on another thread was faster."""
        if not self._turn or self._provider is not None:
            return False
        try:
            return self._turn.pop()
        except IndexError:
            return False

    @property
    def governed(self) -> bool:
        """Whether policy runs for this very request: at this call, or at the framework's above it."""
        return not self.exempt or self._judged_above

    @property
    def sent_beneath(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - nobody sets it
        """Whether policy ran for this very request at the framework's call above."""
        return self._judged_above

    def distrust(self) -> None:
        """Let policy judge this call whatever was judged above: the request says more than its body does."""
        if self._judged_above:
            self.exempt = self._judged_above = False

    def _is_what_was_judged(self, above: ModelCall) -> bool:
        """Whether this asks for the model, the tools and the parameters that policy saw at the framework's call.

        A framework says what it likes of itself: what differs, or cannot be compared, is judged where it is sent.
        """
        if not is_covered(above.scope):
            return True
        try:
            return _asked_for(self.original) == _asked_for(above.outgoing()) and not offers_within(self.original)
        except Exception:  # objects of the application's, compared by code of its own
            return False

    def pay(self, payer: object) -> None:
        """Note that `payer` has counted the sending that is about to happen, which a provider's call may do."""
        if self._turn is None:
            return
        self._paid = [] if self._paid is None else self._paid
        if payer not in self._paid:
            self._paid.append(payer)

    def is_paid(self, payer: object, *, take: bool = False) -> bool:
        """Whether `payer` has counted this sending at the framework's call above; `take` uses that up."""
        above = None if self.root.sends else self._above
        while above is not None and payer not in (above._paid or ()):
            above = above._above
        if above is not None and above._paid and take:
            above._paid.remove(payer)
        return above is not None

    @property
    def deployment(self) -> str | None:
        """The model that the URL names, which runs whatever the body says; None where it names none."""
        return None if self.url_model is None else self.url_model(self)

    def insist_on_reading(self) -> None:
        """Refuse a call whose body policy cannot read.

        Raises:
            MiddlewareError: with what is wrong with it.
        """
        if self.unreadable is not None:
            raise MiddlewareError(f"policy cannot check this model call, so it is refused: {self.unreadable}")

    def check_sendable(self) -> None:
        """Raise what the SDK raises where it cannot make a request of what the application asked for."""
        check = getattr(self.boundary, "check_sendable", None)
        if check is not None:
            check()

    def identity(self) -> Identity | None:
        """Return what tells this request from others beside its JSON; None where its boundary does not know."""
        tell = getattr(self.boundary, "identity", None)
        return None if tell is None else tell()

    @property
    def reached(self) -> bool:
        """Whether a provider's call beneath was made."""
        return self._provider is not None

    @property
    def delegated(self) -> bool:
        """Whether a provider's call beneath tells the whole story, so that nothing need be kept here."""
        return self.exempt and self._provider is not None and self._provider.record.error is None

    @property
    def request(self) -> ModelRequest:
        """The request as a record; edit it or replace it, and the codec patches the wire.

        Of a call that has ended it is what has been kept of it.
        """
        if self.original is _LET_GO:
            sent = self.sent
            asked = self.codec.decode_request(_json.loads_object(sent)) if sent else self.record.request
            return cast("ModelRequest", asked)
        if self._request is None:
            self._request = self.codec.decode_request(self.wire)
        return self._request

    @request.setter
    def request(self, value: ModelRequest) -> None:
        if not isinstance(value, ModelRequest):  # pyright: ignore[reportUnnecessaryIsInstance] - policy is user code
            raise MiddlewareError(f"the request of a model call must be a ModelRequest, not {type(value).__name__!r}")
        self._request = value

    @property
    def wire(self) -> dict[str, Any]:
        """The provider's JSON, a copy that policy may edit. Edit this or `request`, not both."""
        if self.original is _LET_GO:
            return _json.loads_object(self.sent or b"{}")
        if self._wire is None:
            self._copied = _json.dumps(self.original)
            self._wire = cast("dict[str, Any]", _json.loads(self._copied))
        return cast("dict[str, Any]", self._wire)

    @wire.setter
    def wire(self, value: Mapping[str, Any]) -> None:
        self._wire = value
        self._request = None

    def mark(self, wire: Mapping[str, Any]) -> None:
        """Send `wire`, which differs from what is to be sent only in what no model sees: nobody checks it again."""
        judged = not self.changed()
        self.only_marked = self.only_marked or not self.edited
        self.wire = wire
        if judged:
            self._judged = wire

    def edit(self, request: Any) -> None:
        """Take a `ModelRequest`, or the provider's JSON as a mapping."""
        if isinstance(request, Mapping):
            self.wire = cast("Mapping[str, Any]", request)
        else:
            self.request = request

    def check_whole(self) -> None:
        """Look whether the JSON that policy made has what the application's had and the API requires."""
        wire = self._wire
        if wire is None:
            return
        for keys in self.codec.required:
            if not any(wire.get(key) is not None for key in keys) and any(
                self.original.get(key) is not None for key in keys
            ):
                raise MiddlewareError(
                    f"policy left a request without {' or '.join(map(repr, keys))}, which its API requires; "
                    "return the changed record, or `call.wire` whole"
                )

    @property
    def streams(self) -> bool:
        """Whether the answer is known to come as a stream."""
        return self._streamed if self.original is _LET_GO else bool(self.original.get("stream"))

    @property
    def edited(self) -> bool:
        """Whether policy has looked at the request in a form that it may have changed."""
        return self._wire is not None or self._request is not None

    def outgoing(self) -> Mapping[str, Any]:
        """Return the JSON to send: the application's own object unless policy changed something."""
        if not self.edited:
            return self.original
        wire = self.wire if self._request is None else self.codec.encode_request(self._request, self.wire)
        return self.original if self._is_untouched(wire) else wire

    def _asked(self) -> Mapping[str, Any]:
        """Return what was to be sent, or the application's own request where policy made one that cannot be written."""
        try:
            return self.outgoing()
        except (
            Exception
        ) as error:  # whatever policy put there: the application has been told, or the provider has answered
            pass_on(error)
            return self.original

    def _is_untouched(self, wire: Mapping[str, Any]) -> bool:
        # A copy differs from what JSON has no form for (NaN, a cycle, an iterator), which is the SDK's to refuse.
        try:
            if wire == self.original:
                return True
        except Exception:  # objects of the application's, compared by code of its own
            pass
        # Where the application has changed its own since, the copy is what policy has judged.
        copied = self._copied
        return copied is not None and wire == _json.loads(copied) and _json.dumps(self.original) == copied

    def hold(self) -> None:
        """Take a copy: it is sent where the application changes its own."""
        _ = self.wire

    def changed(self) -> bool:
        """Whether the wire differs from what guardrails judged last."""
        outgoing = self.outgoing()
        return outgoing is not self._judged and outgoing != self._judged

    def judge(self) -> None:
        """Remember the wire that guardrails are about to judge."""
        outgoing = self.outgoing()
        # Policy may go on editing its own copy in place.
        self._judged = outgoing if outgoing is self.original else _json.loads_object(_json.dumps(outgoing))

    def branch(self) -> ModelCall:
        """Return a copy with a request of its own, to be sent beside this call."""
        other = cast("ModelCall", super().branch())
        outgoing = self.outgoing()
        copied = _json.dumps(outgoing)
        if outgoing is self.original:
            other._copied = copied
        other._wire = cast("dict[str, Any]", _json.loads(copied))
        other._request = None
        other.only_marked = False
        other.sent = other.body = None
        other._turn = list(self._turn) if self._turn is not None else None
        return other

    def shown(self) -> ModelCall:
        """Return a copy for policy on trial."""
        if self._turn is not None and self._paid is None:
            self._paid = []
        other = self.branch()
        # Not the copy is sent: a provider's call beneath finds what has been counted at this one.
        other._paid = self._paid
        return other

    def with_request(self, request: ModelRequest) -> ModelCall:
        """Return a copy of the call that sends `request`, for `yield [a, b]`."""
        other = self.branch()
        other.request = request
        return other

    def decode_answer(self, response: Response) -> ModelResponse:
        """Return the record of an answer."""
        return self.codec.decode_response(self._json_of(response.body, response.arrived))

    def read_answer(self, answer: Any) -> Any:
        """Return the record of an answer that middleware made: one, or the provider's JSON."""
        return self.codec.decode_response(answer) if isinstance(answer, Mapping) else answer

    def encode_answer(self, record: ModelResponse) -> dict[str, Any]:
        """Return the response body that says `record`, patched onto the provider's own where there is one."""
        if record.model is None:
            record = replace(record, model=self.request.model)
        body = self.codec.encode_response(record, self._json_of(self.body, self.arrived) or None)
        self.tap, self.body = None, _json.dumps(body)
        return body

    def stream_events(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Return the events that add up to `body`: those that it came in, where it is an answer that is given again."""
        kept = self.replayed
        if kept is not None and body.items() >= kept[0].items():
            return iter(kept[1])
        return self.codec.stream_events(body)

    def checked_answer(self, body: dict[str, Any], by: str) -> dict[str, Any]:
        """Return the provider's JSON that the execution intercept `by` answers with.

        Raises:
            MiddlewareError: what the API answers with is not in it, and no error either.
        """
        told = self._doubt_about(body)
        if told is None:
            self.tap, self.body = None, _json.dumps(body)
            return body
        raise MiddlewareError(
            f"execution intercept {by!r}: the answer to a call of kind {self.record.kind!r} must be a ModelResponse, "
            f"or the provider's JSON with a list of objects as {self.codec.answers_with!r}; {told}"  # type: ignore[attr-defined] - it has one, or there were no doubt
        )

    def _doubt_about(self, body: Mapping[str, Any]) -> str | None:
        """Return what of the JSON that middleware answers with is not as the API answers."""
        key = getattr(self.codec, "answers_with", None)
        if key is None or body.get("error"):
            return None
        items = body.get(key)
        if not (isinstance(items, list) and all(isinstance(item, Mapping) for item in cast("list[object]", items))):
            return f"it has {sorted(map(str, body))}"
        doubts = map(cast("Any", self.codec).doubt_about, cast("list[Mapping[str, Any]]", items))
        return next((f"{key}[{index}] {why}" for index, why in enumerate(doubts) if why is not None), None)

    def adopt(self, response: Response) -> None:
        """Record what `response` came of: this call, or a branch of it."""
        super().adopt(response)
        other = response.call
        if isinstance(other, ModelCall):
            self.sent, self.body, self.tap, self.arrived = other.sent, response.body, other.tap, response.arrived
            self.original, self._wire, self._request = other.original, other._wire, other._request
            self._provider = other._provider
            self.http_status = other.http_status

    def _json_of(self, kept: bytes | None, arrived: Arrived | None) -> Mapping[str, Any]:
        if arrived is not None:
            return arrived.body(self.codec)
        if not kept:
            return {}
        # A stream that was read before the SDK got it is kept as its bytes.
        return read_frames(kept, self.codec) if self.streams else _json.loads_object(kept)

    def finish(self, end: int | None = None) -> None:
        """End the span; what was not seen on the wire is kept as bytes now, before anybody changes it."""
        if self.foreign:
            self._outlive()
        open_still = self.span.is_recording()
        if open_still and self.sent is None and self._provider is None:
            self.sent = _json.dumps(self._asked())
        self._copied = None
        if open_still:
            self._note_failure()
        if self._lender is not None:
            # The framework's call ends the span, and reads what was kept here.
            self.context = NO_CONTEXT
        else:
            if self._wire is not None and not self.foreign:
                self._rename()
            super().finish(end)
        # What waits to be read is bounded by its bytes: the objects that they were written from are several times that.
        if self.original is not _LET_GO:
            self._streamed = bool(self.original.get("stream"))
        self.original = self._judged = _LET_GO
        self._wire = self._request = None

    def _note_failure(self) -> None:
        """Record that the call failed though HTTP said that it went well: the span's status is set when it ends."""
        error, provider = self.record.error, self._provider
        if error is None:
            if provider is not None and provider._answered_failure and not self._asked_again:
                self.record.error, self._answered_failure = provider.record.error, True
                return
            try:
                data = self.body if self.arrived is None else self.arrived.data()
                if data and may_say_failed(data, self.codec):
                    self._fail_by(self.codec.decode_response(self._json_of(self.body, self.arrived)))
                    self._note_part()
            except Exception as failure:  # whoever reads the record finds the same, and tells of it
                pass_on(failure)

    def _note_part(self) -> None:
        """Record that a failure ended a stream before its answer was whole."""
        arrived = self.arrived
        if (
            self._answered_failure
            and arrived is not None
            and arrived.form != "body"
            and not arrived.is_whole(self.codec)
        ):
            self.record.incomplete = "error"

    def _fail_by(self, response: ModelResponse) -> None:
        """Take over the failure that an answer tells of, with the status that HTTP had, whatever the body says."""
        if response.error is not None and self.record.error is None:
            self.record.error = replace(response.error, status_code=self.http_status)
            self._answered_failure = True

    def _rename(self) -> None:
        """Name the span after the model that policy put there."""
        model = self._asked().get("model")
        started = self.record.request
        if isinstance(model, str) and started is not None and model != started.model:
            self.record.name = span_name(self.record.kind or "llm", self.record.operation, model)
            self.span.update_name(clean_text(self.record.name))

    @property
    def size(self) -> int:
        """Bytes of request and response kept."""
        beneath = self._provider.size if self._provider is not None else 0
        sent = len(self.sent or b"") if self._remainder is None else len(self._remainder)
        return beneath + sent + (self.arrived.size if self.arrived is not None else len(self.body or b""))

    def show(self) -> None:
        """Share nothing of the record: code of the application's will see it."""
        self._shown = True
        if self._provider is not None:
            self._provider.show()

    def shorten(self) -> None:
        """Keep of the request what the one before it has not said."""
        if self.sent:
            self._remainder = backlog.put(self.sent)
            self.sent = None if self._remainder is not None else self.sent
        if self._provider is not None:
            self._provider.shorten()

    def complete(self) -> None:
        """Decode request and response into the record, and let the bytes go."""
        self._decode()
        if self._provider is not None:
            self._take_over(self._provider)
        request = self.record.request
        if request is not None and self.made_of is not None:
            request.prompt = request.prompt or self.made_of
            self.made_of = None

    def _take_over(self, provider: ModelCall) -> None:
        """Record what the provider was asked and said; the framework knows only its own version of it."""
        provider.complete()
        record, theirs = self.record, provider.record
        record.request = theirs.request or record.request
        record.provider = theirs.provider
        record.would_refuse += theirs.would_refuse
        record.would_change += theirs.would_change
        record.prompt_cache = theirs.prompt_cache or record.prompt_cache
        record.response_cache = theirs.response_cache or record.response_cache
        record.server_address, record.server_port = theirs.server_address, theirs.server_port
        if theirs.error is None or record.response is None or self._answered_failure:
            record.response = theirs.response or record.response
            record.answered_by = record.answered_by or theirs.answered_by
        if record.time_to_first_chunk is None:
            record.time_to_first_chunk = theirs.time_to_first_chunk
        if theirs.incomplete == "cut":
            record.incomplete = record.incomplete or theirs.incomplete
        self._provider = None

    def _decode(self) -> None:
        record = self.record
        try:
            sent = self.sent if self._remainder is None else self._remainder.whole()
            if sent:
                request = (
                    self.codec.decode_request(_json.loads_object(sent))
                    if self._shown
                    else read_request(self.codec, sent)
                )
                begun = record.request
                if request.model is None and begun is not None:  # clouds have the model, and how it answers, in the URL
                    request.model, request.stream = begun.model, begun.stream
                record.request = request
        except Exception as error:
            failed("decoding a request", error)
        try:
            arrived = self.arrived
            body = self._json_of(self.body, arrived)
            if arrived is not None and arrived.is_over and arrived.is_whole(self.codec, body) is False:
                record.incomplete = record.incomplete or "cut"
            if body:
                record.response = self.codec.decode_response(body)
                if record.answered_by is not None:
                    record.response.usage = None  # no provider was asked, whatever the answer says of one that was
                self._fail_by(record.response)
        except Exception as error:
            failed("decoding a response", error)
        self.sent = self.body = self.arrived = self._remainder = None

    def forget_content(self) -> None:
        """Drop the bytes; model, times and error stay."""
        super().forget_content()
        self.sent, self.body, self.arrived, self._remainder = b"", None, None, None
        self.made_of = None
        if self._provider is not None:
            self._provider.forget_content()


def open_for(tracing: Tracing, start: Start, kind: Kind | None) -> Opened:
    """Open the span of a provider's call, or take that of the framework's call which this is the first under.

    The framework's call is one of ours, or a span that other instrumentation has opened for it. `kind` is None for a
    call that no framework's stands for but one of the same sort: that of an image, say, which is no conversation.
    """
    context = place_now()
    above = context.get(CALL_KEY)
    if kind is None:
        if not isinstance(above, ModelCall) or not above.lends_plainly:
            return Opened(tracing, start, outer=context)
        kind = "llm"
    lender = None
    if above is not None and isinstance(above, ModelCall) and above.lends and above.record.kind == kind:
        lender = above
    if lender is not None and lender.lend():
        leave_out(kind, context)
        return Lent(lender)
    theirs = take(kind, context) if heard else None
    opened = Opened(tracing, start, outer=context) if theirs is None else Taken(theirs, start, context)
    opened.above = lender
    return opened


def text_of(value: object) -> str | None:
    """Return `value` as plain text if it is text: a class of the application's may compare in its own way."""
    if type(value) is str:
        return value
    return str.__str__(value) if isinstance(value, str) else None


def _asked_for(wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a request policy judges beside its words."""
    return {key: value for key, value in wire.items() if value is not None and key not in _SAID_OTHERWISE}


def offers_within(wire: Mapping[str, Any]) -> bool:
    """Whether items of the input offer tools, as those of the Responses API may."""
    return any(isinstance(item, Mapping) and "tools" in item for item in as_list(wire.get("input")))
