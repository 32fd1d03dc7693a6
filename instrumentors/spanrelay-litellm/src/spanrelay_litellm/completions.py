"""The boundary of a chat completion: LiteLLM's function, whose arguments are OpenAI's request in its own spelling.

What is no part of a request stays out of the record: keys, addresses, clients, and what LiteLLM keeps to itself.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from functools import lru_cache
from typing import Any, cast

import wrapt

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import openai_chat
from spanrelay.codecs.narrowing import as_mapping
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.driver import arun, run
from spanrelay.pipeline.model import ModelCall, open_for
from spanrelay.pipeline.stream import AsyncTap, SyncTap, Tap
from spanrelay.records import ModelRequest, SpanRecord
from spanrelay.semconv.names import provider_name, span_name
from spanrelay.tracing import Start, Tracing

_APART = frozenset(
    (
        "acompletion",
        "api_base",
        "api_key",
        "api_version",
        "base_url",
        "client",
        "default_headers",
        "deployment_id",
        "drop_params",
        "enable_json_schema_validation",
        "extra_body",
        "extra_headers",
        "headers",
        "max_retries",
        "model_list",
        "organization",
        "request_timeout",
        "shared_session",
        "timeout",
    )
)
"""Arguments that are no part of a request: `extra_body` is one, and read by itself."""
_NAMING = frozenset(("fallbacks", "context_window_fallbacks", "models"))
"""Arguments of LiteLLM's own that name models."""


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Both functions, in the module that has them and in the package, which the Router asks."""
    completions = Completions(tracing)
    return tuple(
        Patch(module, name, wrapper)
        for module in ("litellm.main", "litellm")
        for name, wrapper in (("completion", completions.complete), ("acompletion", completions.acomplete))
    )


class Completions:
    """The wrappers around the functions."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def complete(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Ask a model, or be the half of `acompletion` that sends."""
        asked = _named(wrapped, args, kwargs)
        if asked.get("acompletion"):
            return wrapped(*args, **kwargs)
        call, boundary = self._call(wrapped, asked, asynchronous=False)
        return _shown(boundary, run(call))

    async def acomplete(self, wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        """Ask a model and await it."""
        call, boundary = self._call(wrapped, _named(wrapped, args, kwargs), asynchronous=True)
        return _shown(boundary, await arun(call))

    def _call(self, wrapped: Any, asked: dict[str, Any], *, asynchronous: bool) -> tuple[ModelCall, Any]:
        model, found = _resolved(asked)
        wire, provider = _wire_of({**asked, "model": model}), provider_name(found)
        kinds = (AsyncBoundary, AsyncStreamBoundary) if asynchronous else (Boundary, StreamBoundary)
        record = SpanRecord(0, 0, name=span_name("llm", openai_chat.operation, wire.get("model")), kind="llm")
        record.operation, record.provider = openai_chat.operation, provider
        record.request = ModelRequest(wire.get("model"), stream=bool(wire.get("stream")))
        opened = open_for(self._tracing, Start(record), "llm")
        boundary = kinds[bool(wire.get("stream"))](wrapped, asked)
        call = ModelCall(openai_chat, wire, boundary, self._tracing, provider=provider, opened=opened)
        # A patched SDK beneath, such as OpenAI's, fills the span with what was on the wire.
        call.lends = True
        named = model if _running(asked) == asked.get("model") else asked.get("model")
        beside: tuple[Any, ...] = tuple(each for each in (model, named) if each != wire.get("model"))
        call.named_beside = beside
        call.unreadable = _doubt_about(asked)
        if call.named_beside or call.unreadable:
            call.distrust()
        return call, boundary


def _named(wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(_ordered(wrapped.__name__), args, strict=False)), **kwargs}


@lru_cache
def _ordered(name: str) -> tuple[str, ...]:
    function = inspect.unwrap(getattr(sys.modules["litellm.main"], name))
    return tuple(inspect.signature(function).parameters)


def _wire_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request that the arguments stand for, as plain JSON."""
    owned = sys.modules["litellm.types.utils"].all_litellm_params
    found = {
        name: value
        for name, value in asked.items()
        if value is not None and name not in _APART and (name not in owned or name in _NAMING)
    }
    found.update({name: _without_keys(found[name]) for name in _NAMING if name in found})
    body = asked.get("extra_body")
    return cast("dict[str, Any]", _json.plain({**found, **(body if isinstance(body, dict) else {})}))


def _doubt_about(asked: Mapping[str, Any]) -> str | None:
    """Return why nobody can say which tools a request offers, or None: providers differ in whose they take."""
    body = as_mapping(asked.get("extra_body"))
    for key in openai_chat.OFFERS:
        if key in body and asked.get(key) not in (None, body[key]):
            return f"it says {key!r} in an argument and in 'extra_body'; say it once"
    return None


def _without_keys(named: Any) -> Any:
    """Return what names models without what else a deployment says of itself, such as its key."""
    if isinstance(named, dict):
        of = cast("dict[str, Any]", named)
        return {"model": of["model"]} if "model" in of else {name: _without_keys(each) for name, each in of.items()}
    return [_without_keys(each) for each in named] if isinstance(named, list) else named


def _with_keys(changed: Any, given: Any) -> Any:
    """Return what policy left of a list of deployments, each as the application gave it."""
    if not isinstance(changed, list) or not isinstance(given, list):
        return changed
    return [next((whole for whole in given if _without_keys(whole) == each), each) for each in changed]


def _resolved(asked: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the model as its provider knows it, and LiteLLM's name of the provider."""
    model, litellm = _running(asked), sys.modules["litellm"]
    base = asked.get("api_base") or asked.get("base_url")
    of = "azure" if asked.get("deployment_id") is not None else asked.get("custom_llm_provider")
    with guarded("asking LiteLLM for the provider of a model"):
        try:
            found, provider, *_ = litellm.get_llm_provider(model, of, base)
            return found, provider
        except litellm.exceptions.BadRequestError:
            pass  # the call fails by the same, in LiteLLM's words
    return model, "litellm"


def _running(asked: Mapping[str, Any]) -> Any:
    """Return the model that LiteLLM asks: a deployment for any other, and what an alias stands for."""
    model, deployment = asked.get("model"), asked.get("deployment_id")
    if deployment is not None:
        return deployment
    aliases = as_mapping(sys.modules["litellm"].model_alias_map)
    return aliases.get(model, model) if isinstance(model, str) else model


def _as_litellm_has_it(model: str, original: Any, asked: Any) -> str:
    """Return another model for the one that was asked for: by the same provider, unless it names one itself."""
    prefix = asked.removesuffix(original) if isinstance(asked, str) and isinstance(original, str) else ""
    names_another = "/" not in original and model.partition("/")[0] in sys.modules["litellm"].provider_list
    return model if not prefix or model.startswith(prefix) or names_another else prefix + model


class Boundary:
    """The real call: LiteLLM's function.

    Args:
        wrapped: The function.
        asked: What it was called with, by name.
    """

    __slots__ = ("_asked", "_wrapped")

    def __init__(self, wrapped: Any, asked: dict[str, Any]) -> None:
        self._wrapped, self._asked = wrapped, asked

    def _ask(self, call: ModelCall) -> Any:
        outgoing = call.outgoing()
        if outgoing is not call.original and bool(outgoing.get("stream")) != call.streams:
            raise MiddlewareError("policy may not turn `stream` on or off: the caller expects the other form")
        if call.observed:
            call.sent = _json.dumps(outgoing)
        return self._wrapped(**(self._asked if outgoing is call.original else self._changed(call, outgoing)))

    def _changed(self, call: ModelCall, outgoing: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with what policy changed; what it left alone stays the application's own object."""
        before, body = call.original, self._asked.get("extra_body")
        apart = set(cast("dict[str, Any]", body)) if isinstance(body, dict) else set[str]()
        asked = {name: value for name, value in self._asked.items() if name not in before or name in outgoing}
        changed = {name: value for name, value in outgoing.items() if name not in before or before[name] != value}
        if isinstance(changed.get("model"), str) and "model" not in apart:
            key = "model" if self._asked.get("deployment_id") is None else "deployment_id"
            changed[key] = _as_litellm_has_it(changed.pop("model"), before["model"], _running(self._asked))
        for name in _NAMING & changed.keys():
            changed[name] = _with_keys(changed[name], self._asked.get(name))
        asked.update({name: value for name, value in changed.items() if name not in apart})
        if apart:
            asked["extra_body"] = {name: outgoing[name] for name in apart if name in outgoing}
        return asked

    def _keep(self, call: ModelCall, response: Any) -> Any:
        if call.observed:
            call.body = _json.dumps(_body_of(response))
        return response

    def send(self, call: ModelCall) -> Any:
        """Ask the model."""
        return self._keep(call, self._ask(call))

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is the response that LiteLLM would have made of it."""
        return sys.modules["litellm"].ModelResponse(**body)


class AsyncBoundary(Boundary):
    """The same, awaited."""

    __slots__ = ()

    async def send(self, call: ModelCall) -> Any:
        """Ask the model."""
        return self._keep(call, await self._ask(call))

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """As `Boundary.answer`."""
        return super().answer(call, body)


class StreamBoundary(Boundary):
    """The same for a stream, whose chunks are JSON while stream intercepts look at them."""

    __slots__ = ("stream",)

    def send(self, call: ModelCall) -> Any:
        """Begin to ask the model."""
        self.stream = stream = self._ask(call)
        source = iter(stream) if call.rewriting is None else _as_json(stream)
        call.tap = tap = SyncTap(call, source, getattr(stream, "close", _nothing), form="events")
        return tap

    def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """An answer of policy is the chunks that say it."""
        return (_chunk(event) for event in list(call.codec.stream_events(body)))


class AsyncStreamBoundary(Boundary):
    """The same, awaited."""

    __slots__ = ("stream",)

    async def send(self, call: ModelCall) -> Any:
        """Begin to ask the model."""
        self.stream = stream = await self._ask(call)
        source = aiter(stream) if call.rewriting is None else _aas_json(stream)
        call.tap = tap = AsyncTap(call, source, getattr(stream, "aclose", _anothing), form="events")
        return tap

    async def answer(self, call: ModelCall, body: dict[str, Any]) -> Any:
        """As `StreamBoundary.answer`."""
        return _each([_chunk(event) for event in call.codec.stream_events(body)])


def _nothing() -> None: ...


async def _anothing() -> None: ...


def _as_json(stream: Any) -> Generator[Any, None, None]:
    for chunk in stream:
        yield _json.plain(chunk.model_dump(exclude_none=True))


async def _aas_json(stream: Any) -> AsyncGenerator[Any, None]:
    async for chunk in stream:
        yield _json.plain(chunk.model_dump(exclude_none=True))


async def _each(chunks: list[Any]) -> AsyncGenerator[Any, None]:
    for chunk in chunks:
        yield chunk


def _chunk(event: Any) -> Any:
    return sys.modules["litellm"].ModelResponseStream(**event) if isinstance(event, dict) else event


def _body_of(response: Any) -> dict[str, Any]:
    """Return a response as JSON. Counts that are all zero are LiteLLM's word for none."""
    body: dict[str, Any] = response.model_dump(exclude_none=True)
    usage = body.get("usage")
    if isinstance(usage, dict) and not any(usage.get(name) for name in ("prompt_tokens", "completion_tokens")):
        del body["usage"]
    return body


def _shown(boundary: Any, native: Any) -> Any:
    """Return a stream as LiteLLM's own object, whose chunks come by ours."""
    return Shown(boundary.stream, native) if isinstance(native, Tap) else native


class Shown(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument] - wrapt has none here
    """LiteLLM's stream, read by way of the call's."""

    def __init__(self, stream: Any, tap: Any) -> None:
        super().__init__(stream)
        self._self_tap = tap

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return _chunk(next(self._self_tap))

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return _chunk(await anext(self._self_tap))

    def close(self) -> None:
        """Close the stream."""
        self._self_tap.close()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._self_tap.aclose()
