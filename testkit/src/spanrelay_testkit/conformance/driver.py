"""What the suite has to know of an SDK: whose exchanges it serves, how its client is made and asked, what it raises.

A driver makes the recorded call as a program would. It compares nothing: that has its one home in `truth`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, ClassVar

from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.exchange import Answer, Request
from spanrelay_testkit.half import Half


class Driver:
    """Derive in a file of `drivers`, one class for each SDK, and put an instance into its `DRIVERS`."""

    sdk: ClassVar[str]
    """The distribution of the SDK, as `google-genai`."""
    module: ClassVar[str]
    """What it is imported by, as `google.genai`."""
    instrumentors: ClassVar[tuple[str, ...]]
    """Our classes that record it, as `spanrelay_openai:OpenAIInstrumentor`."""
    serves: ClassVar[frozenset[tuple[str, str]]]
    """The pairs of provider and API."""
    asynchronous: ClassVar[tuple[bool, ...]] = (False, True)
    """The halves that the SDK has: False for sync, True for async."""
    raw: ClassVar[bool] = False
    """Whether `raw_call` asks for raw responses."""

    # ── what stands here

    @property
    def is_here(self) -> bool:
        """Whether the SDK and our instrumentors can be imported."""
        return all(map(is_importable, (self.module, *(each.partition(":")[0] for each in self.instrumentors))))

    def instrumentor_classes(self) -> list[Any]:
        """Import our classes."""
        parts = [each.partition(":") for each in self.instrumentors]
        return [getattr(import_module(module), name) for module, _, name in parts]

    @property
    def version(self) -> str | None:
        """The installed version of the SDK."""
        try:
            return version(self.sdk)
        except PackageNotFoundError:
            return None

    def covers(self, exchange: Exchange) -> bool:
        """Whether an exchange is of a pair in `serves`."""
        return (exchange.provider, exchange.api) in self.serves

    def why_not(self, exchange: Exchange) -> str | None:
        """Why an exchange that is covered cannot be served; None where it can."""
        return None

    # ── what the SDK is asked with

    def client(self, exchange: Exchange, address: str, *, asynchronous: bool) -> Any:
        """Make a client that asks for the recorded path at `address` (`http://127.0.0.1:port`), once."""
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, exchange: Exchange, address: str, half: Half) -> AsyncGenerator[Any]:
        """Make a client and close it."""
        client = self.client(exchange, address, asynchronous=half.asynchronous)
        yield client
        if hasattr(client, "close"):
            await half.close(client)

    def call(self, client: Any, exchange: Exchange) -> Any:
        """Make the recorded call by the SDK's ordinary method; returns what the SDK does, awaitable or not."""
        raise NotImplementedError

    def raw_call(self, client: Any, exchange: Exchange) -> Any:
        """Make it for a raw response, and return what `parse()` makes of that."""
        raise NotImplementedError

    def errors(self) -> tuple[type[Exception], ...]:
        """The exceptions of the SDK, and no others: a fault of ours must not pass for one."""
        raise NotImplementedError

    def plain(self, answer: Any) -> Any:
        """What an answer or a chunk is, to compare it with another."""
        dump = getattr(answer, "model_dump", None)
        return (type(answer), dump(warnings=False) if dump is not None else answer)

    def failure(self, error: Exception) -> list[Any]:
        """What an exception of the SDK is, to compare it with another."""
        told = [type(error), str(error)]
        return [*told, *(getattr(error, name, None) for name in ("body", "status_code"))]

    async def told(self, answer: Any, exchange: Exchange, half: Half) -> list[Any]:
        """Read an answer: a stream to its end, chunk by chunk."""
        if exchange.streamed and is_iterator(answer):
            return [type(answer), *[self.plain(chunk) async for chunk in half.each(answer)]]
        return [self.plain(answer)]

    async def ask(self, client: Any, exchange: Exchange, half: Half, *, raw: bool = False) -> list[Any]:
        """Make the recorded call; returns what the SDK handed out: an answer, a stream and its chunks, or its error."""
        try:
            answer = await half.settle((self.raw_call if raw else self.call)(client, exchange))
            return await self.told(answer, exchange, half)
        except self.errors() as error:
            return self.failure(error)

    # ── what goes over the wire

    def answer(self, exchange: Exchange, request: Request) -> Answer:
        """What the provider answers to `request`: what was recorded."""
        return exchange.answer

    def model_of(self, exchange: Exchange, request: Request) -> Any:
        """The model that a request asks for, which policy may have changed."""
        return request.get("model")

    def without_model(self, exchange: Exchange, request: Request) -> Any:
        """What else a request says."""
        body = request.body
        return {name: value for name, value in body.items() if name != "model"} if isinstance(body, dict) else body

    def rewritable(self, exchange: Exchange) -> bool:
        """Whether policy can have the exchange ask for another model."""
        return isinstance(exchange.body, Mapping) and "model" in exchange.body

    def path_of(self, exchange: Exchange) -> str:
        """The path that the SDK asks for: the recorded one."""
        return exchange.path

    def differing(self, exchange: Exchange, request: Request) -> list[str]:
        """In what the request of the SDK asks for something else than the recorded one; empty where in nothing."""
        path = self.path_of(exchange)
        found = [] if request.path == path else [f"asks {request.path!r}, not {path!r}"]
        sent, recorded = request.body, exchange.body
        if not isinstance(recorded, Mapping):
            return found if sent == recorded else [*found, "sends another body"]
        return found + [f"sends another {name!r}" for name in recorded if sent.get(name) != recorded[name]]

    # ── what the span says that the wire does not

    def provider(self, exchange: Exchange) -> str:
        """The `gen_ai.provider.name` where the provider stands at 127.0.0.1: the SDK's."""
        raise NotImplementedError


def is_importable(module: str) -> bool:
    """Whether a module is installed."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is not
        return False


def is_iterator(answer: Any) -> bool:
    """Whether an answer is read chunk by chunk."""
    return hasattr(answer, "__next__") or hasattr(answer, "__anext__")


async def parsed(response: Any) -> Any:
    """What `parse()` makes of a raw response that is awaited."""
    answer = (await response).parse()
    return await answer if inspect.isawaitable(answer) else answer


def parse(response: Any) -> Any:
    """What `parse()` makes of a raw response, awaitable or not."""
    return parsed(response) if asyncio.iscoroutine(response) else response.parse()
