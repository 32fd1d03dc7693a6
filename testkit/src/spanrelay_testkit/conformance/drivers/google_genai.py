"""The `google-genai` SDK: the Gemini Developer API, and Vertex AI."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from spanrelay_testkit.conformance.driver import Driver
from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.exchange import Request
from spanrelay_testkit.half import Half

_APIS = ("interactions", "generate_content", "stream_generate_content", "embeddings", "count_tokens")
_PLACE = re.compile(r"^/([^/]+)/(?:projects/([^/]+)/locations/([^/]+)/)?")


class GoogleGenAI(Driver):
    """`genai.Client`, for whichever of the two the recorded path is of."""

    sdk = "google-genai"
    module = "google.genai"
    instrumentors = ("spanrelay_google_genai:GoogleGenAIInstrumentor",)
    serves = frozenset((provider, api) for provider in ("google", "google_vertex") for api in _APIS)

    def client(self, exchange: Exchange, address: str, *, asynchronous: bool) -> Any:
        """A client of the recorded version, and of the recorded project where there is one."""
        version, project, location = _place_of(exchange)
        options = {"base_url": address, "api_version": version, "retry_options": {"attempts": 1}}
        genai = import_module("google.genai")
        if project is None:
            return genai.Client(api_key="none", vertexai=False, http_options=options)
        credentials = import_module("google.oauth2.credentials").Credentials(token="none")
        place = {"project": project, "location": location, "credentials": credentials}
        return genai.Client(vertexai=True, http_options=options, **place)

    @asynccontextmanager
    async def opened(self, exchange: Exchange, address: str, half: Half) -> AsyncGenerator[Any]:
        """A client and, where it is asked so, its async half."""
        client = self.client(exchange, address, asynchronous=half.asynchronous)
        try:
            yield client.aio if half.asynchronous else client
        finally:
            await client.aio.aclose()
            client.close()

    def call(self, client: Any, exchange: Exchange) -> Any:
        """Ask with the recorded body as the arguments that make it."""
        body, model = exchange.body, exchange.truth["request_model"]
        if exchange.api == "interactions":
            return client.interactions.create(**body)
        if exchange.api == "embeddings":
            contents = [each["content"] for each in body["requests"]]
            first = {key: value for key, value in body["requests"][0].items() if key not in ("content", "model")}
            return client.models.embed_content(model=model, contents=contents, config=first)
        if exchange.api == "count_tokens":
            return client.models.count_tokens(model=model, contents=body["contents"])
        ask = client.models.generate_content_stream if exchange.streamed else client.models.generate_content
        config = {name: value for name, value in body.items() if name not in ("contents", "generationConfig")}
        return ask(model=model, contents=body["contents"], config={**body.get("generationConfig", {}), **config})

    async def told(self, answer: Any, exchange: Exchange, half: Half) -> list[Any]:
        """Read an answer; the SDK's clocks are left out."""
        told = await super().told(answer, exchange, half)
        return [_without_headers(each) for each in told]

    def errors(self) -> tuple[type[Exception], ...]:
        """What the API refuses."""
        return (
            import_module("google.genai.errors").APIError,
            import_module("google.genai._gaos.lib.compat_errors").APIError,
        )

    def failure(self, error: Exception) -> list[Any]:
        """What an error says of itself."""
        return [type(error), str(error), *(getattr(error, name, None) for name in ("code", "status", "details"))]

    def model_of(self, exchange: Exchange, request: Request) -> Any:
        """The path names it, but for that of interactions."""
        return request.model

    def without_model(self, exchange: Exchange, request: Request) -> Any:
        """The body, in which requests of a batch name the model again."""
        if exchange.api == "interactions":
            return super().without_model(exchange, request)
        batch = request.get("requests")
        if batch is None:
            return request.body
        return [{name: value for name, value in each.items() if name != "model"} for each in batch]

    def rewritable(self, exchange: Exchange) -> bool:
        """The path always names a model."""
        return True

    def differing(self, exchange: Exchange, request: Request) -> list[str]:
        """Whatever its spelling, each field is what was recorded."""
        found = [] if request.path == exchange.path else [f"asks {request.path!r}, not {exchange.path!r}"]
        sent, recorded = _spelled(request.body), _spelled(exchange.body)
        if exchange.api == "interactions" and isinstance(recorded["input"], list):
            recorded["input"] = [{"type": "user_input", "content": recorded["input"]}]  # the SDK says so since then
        return found + [f"sends another {name!r}" for name in recorded if not _covers(sent.get(name), recorded[name])]

    def provider(self, exchange: Exchange) -> str:
        """Known by its client."""
        return "gcp.vertex_ai" if exchange.provider == "google_vertex" else "gcp.gemini"


def _place_of(exchange: Exchange) -> tuple[str, str | None, str | None]:
    found = _PLACE.match(exchange.path)
    assert found is not None, exchange.path
    return found[1], found[2], found[3]


def _without_headers(told: Any) -> Any:
    """An answer without the HTTP headers, of which some count the answers of the server."""
    if isinstance(told, tuple) and isinstance(told[1], Mapping):
        return told[0], {name: value for name, value in told[1].items() if name != "sdk_http_response"}
    return told


def _spelled(value: Any) -> Any:
    """JSON with all its keys in snake case, and data in the alphabet for URLs."""
    if isinstance(value, Mapping):
        return {
            re.sub("([A-Z])", lambda found: "_" + found[1].lower(), key): _spelled(each) for key, each in value.items()
        }
    if isinstance(value, list):
        return [_spelled(each) for each in value]
    return value.replace("+", "-").replace("/", "_") if isinstance(value, str) else value


def _covers(sent: Any, recorded: Any) -> bool:
    """Whether what is sent says what was recorded; what was empty may be left out."""
    if isinstance(recorded, Mapping):
        known = sent if isinstance(sent, Mapping) else {}
        return all(_covers(known.get(name), each) for name, each in recorded.items())
    if isinstance(recorded, list) and isinstance(sent, list) and len(sent) == len(recorded):
        return all(map(_covers, sent, recorded))
    return sent == recorded or (sent is None and not recorded)


DRIVERS = (GoogleGenAI(),)
