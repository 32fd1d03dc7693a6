"""What a request asks of a model: its route, its JSON as codecs read it, and what its URL says besides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from spanrelay.codecs.offers import Offer
from spanrelay.errors import MiddlewareError
from spanrelay.gateway.upstreams import Upstream
from spanrelay.instrumentation.apis import anthropic, gemini, openai
from spanrelay.instrumentation.requests import Body, place_in
from spanrelay.instrumentation.targets import PLAIN, Route, asks_within
from spanrelay.pipeline.model import text_of
from spanrelay.providers import provider_of_host, provider_of_openai_host


class Asked(NamedTuple):
    """What a request asks of a model.

    Attributes:
        api: The API that it is of.
        route: How it is read.
        wire: Its JSON, as codecs and policy read it.
        model: The model that it names first, if that is a text.
        named: Models that its query and its files name.
        deployment: The model that its path names, which runs whatever the body says.
        own_model: What its body calls `model` though the path names one, by which it is judged too.
        unreadable: Why nobody can say what it asks for, where that is so.
        offers: Tools that its files offer.
    """

    api: API
    route: Route
    wire: Mapping[str, Any]
    model: str | None
    named: tuple[Any, ...] = ()
    deployment: str | None = None
    own_model: Any = None
    unreadable: str | None = None
    offers: tuple[Offer, ...] = ()


class API(Protocol):
    """The API of a provider, and of all that speak it."""

    name: str

    def has(self, path: str) -> bool:
        """Whether a path, that of the base URL included, is one of its inference routes."""
        ...

    def asked(self, path: str, query: bytes, body: Body) -> Asked | None:
        """Return what a request asks of a model; None where it asks none."""
        ...

    def provider(self, host: str) -> str:
        """Return the `gen_ai.provider.name` of who answers at a host."""
        ...

    def outgoing(self, asked: Asked, path: str, wire: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Return the path and the body of a request that policy has made `wire` of.

        Raises:
            MiddlewareError: it cannot be said in this API.
        """
        ...


@lru_cache(maxsize=512)
def _place(path: str, query: bytes) -> Any:
    return place_in(path, query)


class BodyAPI:
    """An API whose requests name the model in their body: OpenAI's and Anthropic's, and those like them."""

    def __init__(self, name: str, routes: Mapping[str, Route]) -> None:
        self.name = name
        self._routes = dict(routes)

    def has(self, path: str) -> bool:
        """Whether a path is one of its inference routes."""
        return any(_place(path, b"").path.endswith(suffix) for suffix in self._routes)

    def asked(self, path: str, query: bytes, body: Body) -> Asked | None:
        """Return what a request asks of a model."""
        place, wire = _place(path, query), body.wire
        route = next((route for suffix, route in self._routes.items() if place.path.endswith(suffix)), PLAIN)
        model = text_of(wire.get("model"))
        beside = (*place.named, *body.beside)
        named = model is not None or place.deployment or beside or body.names_model or body.offers
        if route is PLAIN and not (named or asks_within(wire)):
            return None
        why = None if route is PLAIN and not body.names_model else body.unreadable
        return Asked(self, route, wire, model, beside, deployment=place.deployment, unreadable=why, offers=body.offers)

    def provider(self, host: str) -> str:
        """Return who answers at a host."""
        return provider_of_openai_host(host) if self.name == "openai" else provider_of_host(host) or self.name

    def outgoing(self, asked: Asked, path: str, wire: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Return where a changed request goes and what it says: all of it is in the body."""
        return path, wire


class GeminiAPI:
    """Gemini's: the model stands in the path, and that a stream is asked for."""

    name = "gemini"

    def has(self, path: str) -> bool:
        """Whether a path is one of an action on a model."""
        return gemini.place_of(path, {}).route is not gemini.PLAIN

    def asked(self, path: str, query: bytes, body: Body) -> Asked | None:
        """Return what a request asks of a model."""
        place = gemini.place_of(path, body.wire)
        wire = gemini.wire_of(place, body.wire, streamed=place.action == "streamGenerateContent")
        plain = place.route is gemini.PLAIN
        if plain and wire.get("model") is None and not body.names_model and not gemini.asks_within(body.wire):
            return None
        own = None if place.model is None else body.wire.get("model")
        why = None if plain and not body.names_model else body.unreadable
        return Asked(self, place.route, wire, text_of(wire.get("model")), own_model=own, unreadable=why)

    def provider(self, host: str) -> str:
        """Return who answers at a host."""
        return provider_of_host(host) or "gcp.gemini"

    def outgoing(self, asked: Asked, path: str, wire: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Return where a changed request goes, which is another path for another model, and what it says."""
        body, model = gemini.body_of(wire), wire.get("model")
        if asked.own_model is not None:
            body["model"] = asked.own_model
        if model == asked.model:
            return path, body
        if not isinstance(model, str) or not model:
            raise MiddlewareError(f"the model of a request is in its path and must be a string, not {model!r}")
        before, slash, action = path.rpartition("/models/")
        if not slash:
            raise MiddlewareError(f"policy cannot put the model {model!r} into the path {path!r}, so it is refused")
        return f"{before}/models/{model.removeprefix('models/')}:{action.rpartition(':')[2]}", body


OPENAI, ANTHROPIC, GEMINI = BodyAPI("openai", openai.ROUTES), BodyAPI("anthropic", anthropic.ROUTES), GeminiAPI()
APIS: Mapping[str, API] = {"openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI}
"""By name. An upstream of another name is asked by OpenAI's, unless a path is another's."""


@lru_cache(maxsize=512)
def api_of(upstream: Upstream, path: str) -> API:
    """Return the API that a path beneath an upstream's base URL is of."""
    own = APIS.get(upstream.name, OPENAI)
    full = upstream.path + path
    for api in (own, OPENAI, ANTHROPIC, GEMINI):
        if isinstance(api, BodyAPI | GeminiAPI) and api.has(full):
            return api
    return own
