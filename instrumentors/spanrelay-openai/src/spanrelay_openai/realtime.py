"""Realtime sessions: every response is a model call, asked for by `response.create` or begun by the server itself.

A call is told as the Responses API has it: what has been said is its input, in texts and transcripts without sound.
Settings (`session.update`) and items (`conversation.item.create`) stay with the server for later responses: where
policy holds, it judges them before they are sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from spanrelay._guard import guarded
from spanrelay.codecs.narrowing import as_list, as_mapping, as_str
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.apis.openai import ROUTES
from spanrelay.instrumentation.patching import Patch
from spanrelay.instrumentation.sessions import SessionSpan
from spanrelay.instrumentation.targets import Address, Target, Targets
from spanrelay.instrumentation.websockets import Speech
from spanrelay.providers import provider_of_openai_host
from spanrelay.tracing import Tracing
from spanrelay_openai.sockets import looked_into

_MODULES = ("openai.resources.realtime.realtime", "openai.resources.beta.realtime.realtime")
_MOST = 256
"""Responses of a session that are remembered."""
_SPOKEN = {"output_audio": "output_text", "audio": "output_text", "text": "output_text", "input_audio": "input_text"}
"""Parts of messages by another name than the Responses API has, most with a transcript for a text."""
_DELTAS = {
    **dict.fromkeys(("response.output_text.delta", "response.text.delta"), "response.output_text.delta"),
    **dict.fromkeys(
        ("response.output_audio_transcript.delta", "response.audio_transcript.delta"), "response.output_text.delta"
    ),
    "response.function_call_arguments.delta": "response.function_call_arguments.delta",
}
"""Pieces of an answer, each with the name that the Responses API has for it."""
_SETTINGS = ("instructions", "tools", "tool_choice", "max_output_tokens", "prompt", "temperature", "reasoning")
"""What is asked for with each response, and is as the session has it where it does not say."""
_CHANGEABLE = ("instructions", "tools", "tool_choice", "max_output_tokens", "input")
_BEGUN = "response.begun"
"""What stands for the `response.create` that nobody sent."""


class RealtimeSpeech(Speech):
    """How one session speaks to its server, which knows what has been said in it."""

    listens = True

    def __init__(self, address: Address, model: str | None) -> None:
        self._address, self._model = address, model
        self._targets = Targets()
        self._session: Mapping[str, Any] = {}
        self._items: list[dict[str, Any]] = []
        """What has been said, in the order in which it was heard of."""
        self._asked_by: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        """The client's events by the response that answers each."""
        self._refused: OrderedDict[str, None] = OrderedDict()

    # --- what a client sends ---

    def asked(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the request of a `response.create`: what it says itself, and else what the session has."""
        return self._request(as_mapping(event.get("response"))) if _kind(event) == "response.create" else None

    def _request(self, said: Mapping[str, Any]) -> dict[str, Any]:
        given = _settings({**self._session, **said})
        items = said.get("input")
        if isinstance(items, list):
            items = [self._referred(item) for item in items]
        kept = {key: value for key, value in said.items() if key not in (*given, "input", "modalities", "conversation")}
        return {**kept, "model": self._model, **given, "input": [*self._items] if items is None else items}

    def _referred(self, item: Any) -> Any:
        """Return the item that a reference is to, and another as it is told."""
        key = as_mapping(item).get("id") if _kind(item) == "item_reference" else None
        found = None if key is None else next((each for each in self._items if each.get("id") == key), None)
        return found or (_told_item(item) if isinstance(item, Mapping) else item)

    def left(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the settings of a `session.update`, or the item of a `conversation.item.create` behind its call."""
        kind = _kind(event)
        if kind == "session.update":
            said = {key: value for key, value in as_mapping(event.get("session")).items() if value != "inf"}
            return {"model": self._model, **said, "input": []}
        if kind == "conversation.item.create":
            item = event.get("item")
            return {"model": self._model, "input": [*self._calls_of(item), item]}
        return None

    def _calls_of(self, item: Any) -> list[Any]:
        """Return the calls that a result is of, which the model has made."""
        if not _kind(item).endswith(("_output", "_approval_response")):
            return []
        keys = [key for name in ("call_id", "approval_request_id") if (key := item.get(name)) is not None]
        return [
            each for each in self._items if _is_call(each) and (each.get("call_id") in keys or each.get("id") in keys)
        ]

    def event(self, event: Mapping[str, Any], wire: Mapping[str, Any], was: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a client's event that says what policy left of it.

        Raises:
            MiddlewareError: it has no way to say that.
        """
        kind = _kind(event)
        changed = {key for key in {**was, **wire} if (key in was) != (key in wire) or was.get(key) != wire.get(key)}
        if kind == "session.update":
            given = as_mapping(event.get("session"))
            return {**event, "session": _put(given, wire, _allowed(changed, given, kind))}
        if kind == "conversation.item.create":
            _allowed(changed, ("input",), kind)
            before, left = as_list(was.get("input"))[:-1], as_list(wire.get("input"))
            if len(left) != len(before) + 1 or left[:-1] != before:
                raise MiddlewareError(f"policy can change only the item of a {kind!r}, or refuse it")
            return {**event, "item": left[-1]}
        given = as_mapping(event.get("response"))
        able = [name for name in _CHANGEABLE if name != "input" or given.get("input") is not None]
        return {**event, "response": _put(given, wire, _allowed(changed, [] if kind == _BEGUN else able, kind))}

    def sent(self, event: Mapping[str, Any]) -> None:
        """Take note of settings, of an item, and of one that is gone."""
        kind = _kind(event)
        with guarded("keeping what was said in a session"):
            if kind == "session.update":
                self._session = {**self._session, **as_mapping(event.get("session"))}
            elif kind == "conversation.item.create" and isinstance(event.get("item"), Mapping):
                self._items.append(_told_item(event["item"]))
            elif kind == "conversation.item.delete":
                self._drop(event.get("item_id"))

    # --- what the server sends ---

    def heard(self, event: Mapping[str, Any]) -> None:
        """Take note of what is said, and of settings."""
        kind = _kind(event)
        with guarded("keeping what was said in a session"):
            if kind in ("session.created", "session.updated"):
                self._session = as_mapping(event.get("session"))
                self._model = as_str(self._session.get("model")) or self._model
            elif kind in ("conversation.item.added", "conversation.item.created", "conversation.item.done"):
                self._add(as_mapping(event.get("item")))
            elif kind == "conversation.item.input_audio_transcription.completed":
                self._transcribe(event)
            elif kind == "conversation.item.deleted":
                self._drop(event.get("item_id"))
            elif kind == "response.done":
                response = as_mapping(event.get("response"))
                if not ("conversation_id" in response and response["conversation_id"] is None):
                    for item in as_list(response.get("output")):
                        self._add(as_mapping(item))

    def _add(self, item: Mapping[str, Any]) -> None:
        """Keep an item, in the place of the same without an id or with less in it."""
        told, key = _told_item(item), item.get("id")
        same = next((at for at, each in enumerate(self._items) if key is not None and each.get("id") == key), None)
        if same is None and (told.get("role") != "assistant" or told.get("type") != "message"):
            alike = {name: told.get(name) for name in ("type", "role", "call_id")}
            same = next((at for at, each in enumerate(self._items) if _is_unnamed(each, alike)), None)
        if same is None:
            self._items.append(told)
        elif told.get("content") or told.get("type") != "message":
            self._items[same] = {**self._items[same], **told}

    def _transcribe(self, event: Mapping[str, Any]) -> None:
        at = next((at for at, each in enumerate(self._items) if each.get("id") == event.get("item_id")), None)
        text = event.get("transcript")
        if at is not None and isinstance(text, str):
            self._items[at] = {**self._items[at], "content": [{"type": "input_text", "text": text}]}

    def _drop(self, key: Any) -> None:
        self._items = [each for each in self._items if key is None or each.get("id") != key]

    def begun(
        self, event: Mapping[str, Any], waiting: Sequence[Mapping[str, Any]]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """Return what stands for the request of a response that the server began by itself."""
        key = as_str(as_mapping(event.get("response")).get("id"))
        if _kind(event) != "response.created" or key is None or self.answered(event, waiting) is not None:
            return None
        stands: dict[str, Any] = {"type": _BEGUN, "response_id": key}
        self._remember(key, stands)
        return stands, self._request({})

    def refused(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the event that stops a response, of which nothing more is handed on."""
        self._refused[event["response_id"]] = None
        if len(self._refused) > _MOST:
            self._refused.popitem(last=False)
        return {"type": "response.cancel", "response_id": event["response_id"]}

    def is_withheld(self, event: Mapping[str, Any]) -> bool:
        """Whether an event is of a response that was refused."""
        return bool(self._refused) and _response_id(event) in self._refused

    def lane(self, event: Mapping[str, Any]) -> Any:
        """Return None: events say themselves which response they are of."""
        return None

    def answered(self, event: Mapping[str, Any], waiting: Sequence[Mapping[str, Any]]) -> int | None:
        """Return which request an event is of; a response is of the oldest with its metadata that has none yet."""
        kind, key = _kind(event), _response_id(event)
        if kind == "error":
            return self._failed(as_mapping(event.get("error")), waiting)
        if key is None:
            return None
        if kind == "response.created" and key not in self._asked_by:
            marks = as_mapping(event.get("response")).get("metadata") or {}
            free = (each for each in waiting if not self._is_answered(each))
            mine = next(
                (each for each in free if (as_mapping(each.get("response")).get("metadata") or {}) == marks), None
            )
            if mine is not None:
                self._remember(key, mine)
        owner = self._asked_by.get(key)
        return next((at for at, each in enumerate(waiting) if each is owner), None)

    def _failed(self, error: Mapping[str, Any], waiting: Sequence[Mapping[str, Any]]) -> int | None:
        """Return which request an error is of: the one it names, else the oldest that has no response yet."""
        name = error.get("event_id")
        for at, each in enumerate(waiting):
            if each.get("event_id") == name if name is not None else not self._is_answered(each):
                return at
        return None

    def _is_answered(self, asked: Mapping[str, Any]) -> bool:
        return any(each is asked for each in self._asked_by.values())

    def _remember(self, key: str, asked: Mapping[str, Any]) -> None:
        self._asked_by[key] = asked
        if len(self._asked_by) > _MOST:
            self._asked_by.popitem(last=False)

    def joins(self, event: Mapping[str, Any], first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        """Say that each request has a response of its own."""
        return False

    def told(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an event as the Responses API has it, without sound."""
        kind = _kind(event)
        if kind in _DELTAS:
            return {**event, "type": _DELTAS[kind]}
        if kind in ("response.output_item.added", "response.output_item.done"):
            return {**event, "item": _told_item(as_mapping(event.get("item")))}
        if kind in ("response.created", "response.done"):
            return self._told_response(as_mapping(event.get("response")), done=kind == "response.done")
        return event if kind == "error" else {"type": kind}

    def _told_response(self, response: Mapping[str, Any], *, done: bool) -> dict[str, Any]:
        status, details = response.get("status"), as_mapping(response.get("status_details"))
        told: dict[str, Any] = {
            "id": response.get("id"), "object": "response", "model": self._model, "status": status,
            "output": [_told_item(as_mapping(item)) for item in as_list(response.get("output"))],
        }  # fmt: skip
        if response.get("conversation_id"):
            told["conversation"] = {"id": response["conversation_id"]}
        if isinstance(response.get("usage"), Mapping):
            told["usage"] = _usage(response["usage"])
        if status == "failed":
            told["error"] = {"code": "failed", "message": "the response failed", **as_mapping(details.get("error"))}
        elif status in ("cancelled", "incomplete"):  # one that is interrupted has not failed
            told |= {"status": "incomplete", "incomplete_details": {"reason": details.get("reason") or status}}
        ends = {"failed": "response.failed", "completed": "response.completed"}
        return {"type": ends.get(str(status), "response.incomplete") if done else "response.created", "response": told}

    def is_last(self, event: Mapping[str, Any]) -> bool:
        """Whether a response is over."""
        return _kind(event) in ("response.done", "error")

    def target(self, model: str | None) -> Target:
        """Return the target of a model at this server; an answer always comes as a stream."""
        provider = provider_of_openai_host(self._address.host or "")
        route = ROUTES["/responses"]
        return self._targets.known((model,), lambda: Target(self._address, route, provider, model, stream=True))


def _kind(event: Any) -> str:
    return as_str(as_mapping(event).get("type")) or ""


def _is_call(item: Mapping[str, Any]) -> bool:
    return _kind(item).endswith(("_call", "_approval_request"))


def _is_unnamed(item: Mapping[str, Any], alike: Mapping[str, Any]) -> bool:
    return item.get("id") is None and all(item.get(name) == value for name, value in alike.items())


def _response_id(event: Mapping[str, Any]) -> str | None:
    key = event.get("response_id") or as_mapping(event.get("response")).get("id")
    return key if isinstance(key, str) else None


def _settings(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the Responses API has too; a bound of `inf` is none."""
    given = {
        **session,
        "max_output_tokens": session.get("max_output_tokens", session.get("max_response_output_tokens")),
    }
    return {key: given[key] for key in _SETTINGS if given.get(key) not in (None, "inf", [])}


def _allowed(changed: set[str], able: Any, kind: str) -> set[str]:
    """Return what policy has changed, all of which it may.

    Raises:
        MiddlewareError: there is something else.
    """
    if not changed <= {*able}:
        raise MiddlewareError(
            f"policy cannot change {sorted(changed - {*able})} of a {kind!r}; let it pass, or refuse it"
        )
    return changed


def _put(given: Mapping[str, Any], wire: Mapping[str, Any], changed: set[str]) -> dict[str, Any]:
    """Return settings with what has changed; what is gone is emptied, or the server would keep what it had."""
    gone: dict[str, Any] = {"tools": [], "instructions": "", "tool_choice": "auto", "max_output_tokens": "inf"}
    return {**given, **{key: wire[key] if key in wire else gone.get(key) for key in changed}}


def _told_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item as the Responses API has it: of what was spoken the transcript."""
    if not isinstance(item.get("content"), list):
        return dict(item)
    return {**item, "content": [_told_part(part) for part in item["content"]]}


def _told_part(part: Any) -> Any:
    kind = _SPOKEN.get(_kind(part))
    if kind is None:
        return part
    text = part.get("text") if part.get("text") is not None else part.get("transcript")
    return {"type": kind, "text": text} if isinstance(text, str) else {"type": _kind(part)}


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    given = {
        "input_tokens_details": usage.get("input_token_details"),
        "output_tokens_details": usage.get("output_token_details"),
    }
    return {**usage, **{key: value for key, value in given.items() if value is not None}}


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both colours of each connection, from when it is made; older SDKs have fewer."""
    return looked_into(_MODULES, "Realtime", partial(_looked_at, tracing))


def _looked_at(tracing: Tracing, connection: Any, wire: Any) -> Any:
    address, model = Address(None, None), None
    with guarded("asking a connection for its address"):
        uri = connection.protocol.uri
        address, named = Address(uri.host, uri.port), parse_qs(uri.query or "")
        model = next((values[-1] for key in ("model", "deployment") if (values := named.get(key))), None)
    return wire(connection, RealtimeSpeech(address, model), tracing, SessionSpan("realtime", tracing))
