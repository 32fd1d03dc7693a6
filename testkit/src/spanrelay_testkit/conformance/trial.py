"""One exchange, asked once more: bare, with our instrumentor, raw, and under policy; or a whole recorded run.

What a trial finds wrong are sentences; an exception that is not the SDK's is one too.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

import spanrelay
from spanrelay._guard import losses
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture, captured
from spanrelay_testkit.conformance import truth
from spanrelay_testkit.conformance.driver import Driver
from spanrelay_testkit.conformance.exchanges import Exchange
from spanrelay_testkit.conformance.trajectories import complaints_of, documents_of, id_of, steps_of
from spanrelay_testkit.exchange import Request
from spanrelay_testkit.half import Half
from spanrelay_testkit.model_server import ModelServer

PATIENCE = 30.0
"""Seconds that one exchange may take; a client that waits for ever fails."""
ANOTHER_MODEL = "another-model"
KINDS = frozenset({"LLM", "EMBEDDING", "RERANKER"})
"""The kinds of spans that stand for an exchange."""


@dataclass(frozen=True)
class Trial:
    """What was tried, and what was wrong."""

    driver: Driver
    exchange: Exchange
    way: str
    complaints: list[str] = field(default_factory=list[str])

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.complaints


def ways_of(driver: Driver) -> list[str]:
    """How an SDK is asked."""
    halves = [{False: "sync", True: "async"}[each] for each in driver.asynchronous]
    return [*halves, *(["raw"] if driver.raw else []), "policy"]


async def tried(driver: Driver, exchange: Exchange, way: str) -> Trial:
    """Try an exchange in one way."""
    ask = under_policy if way == "policy" else compared
    try:
        found = await asyncio.wait_for(ask(driver, exchange, way), PATIENCE)
    except Exception as error:  # whatever it is, it is what is wrong
        found = [f"{type(error).__name__}: {truth.shown(str(error))} at {place_of(error)}"]
    return Trial(driver, exchange, way, [*found, *lost()])


def lost() -> list[str]:
    """What was swallowed of ours."""
    return [f"swallowed: {what}" for what in losses.take()]


def place_of(error: Exception) -> str:
    """The last place an exception passed."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[:-4:-1])


def half_of(driver: Driver, way: str) -> Half:
    """Sync, where the SDK has that."""
    return Half(asynchronous=way == "async" or False not in driver.asynchronous)


@contextmanager
def at_work(driver: Driver, capture: Capture) -> Generator[None]:
    """Our instrumentors of an SDK, within the block."""
    instrumentors = [kind() for kind in driver.instrumentor_classes()]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.provider)
    try:
        yield
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()


@contextmanager
def replaying(driver: Driver, exchange: Exchange) -> Generator[ModelServer]:
    """A provider that answers as it did."""
    with ModelServer(lambda request: driver.answer(exchange, request)) as server:
        yield server


async def compared(driver: Driver, exchange: Exchange, way: str) -> list[str]:
    """Ask bare and instrumented; the program and the provider see no difference, and the records are true."""
    half, raw = half_of(driver, way), way == "raw"
    with captured() as capture, replaying(driver, exchange) as server:
        async with driver.opened(exchange, server.address, half) as client:
            bare = await driver.ask(client, exchange, half, raw=raw)
            asked, server.requests[:] = list(server.requests), []
            with at_work(driver, capture):
                ours = await driver.ask(client, exchange, half, raw=raw)
        found = list(truth.unless_same("the program gets", ours, bare))
        found += sent_otherwise(driver, exchange, asked, server.requests)
        spans = [span for span in capture.spans if kind_of(span) in KINDS]
        if len(spans) != 1:
            return [*found, f"spans: {[span.name for span in capture.spans]}, not one"]
        return found + list(recorded_wrongly(driver, exchange, spans[0], capture.spans))


def kind_of(span: ReadableSpan) -> Any:
    """The OpenInference kind of a span."""
    return (span.attributes or {}).get(names.OI_KIND)


def sent_otherwise(
    driver: Driver, exchange: Exchange, bare: Sequence[Request], ours: Sequence[Request]
) -> Iterator[str]:
    """Complain where what is sent differs by a byte, or is not what was sent when the exchange was recorded."""
    yield from truth.unless_same("requests", len(ours), len(bare))
    for mine, theirs in zip(ours, bare, strict=False):
        yield from truth.unless_same("the provider gets", mine.raw, theirs.raw)
        yield from truth.unless_same("the provider is asked", (mine.path, mine.query), (theirs.path, theirs.query))
        headers = [name for name in mine.headers if name not in ("traceparent", "tracestate")]
        yield from truth.unless_same("headers", headers, list(theirs.headers))
    if not bare:
        yield "the SDK sent nothing"
    yield from (f"the SDK {what}" for what in (driver.differing(exchange, bare[-1]) if bare else ()))


def recorded_wrongly(
    driver: Driver, exchange: Exchange, span: ReadableSpan, spans: Sequence[ReadableSpan]
) -> Iterator[str]:
    """Complain where the span, or the trajectory that is made of it, does not say what was said."""
    yield from truth.of_span(span, exchange, driver.provider(exchange))
    if exchange.converses:
        documents = documents_of(spans)
        yield from complaints_of(documents)
        step = steps_of(documents).get(id_of(span))
        yield from truth.of_step(step, exchange) if step is not None else ["the trajectory has no step of it"]


async def under_policy(driver: Driver, exchange: Exchange, way: str) -> list[str]:
    """A refused call is not sent; a call for another model asks for that, and for nothing else otherwise."""
    half, found = half_of(driver, way), list[str]()
    with captured() as capture, replaying(driver, exchange) as server:
        async with driver.opened(exchange, server.address, half) as client:
            await driver.ask(client, exchange, half)
            bare, server.requests[:] = list(server.requests), []
            with at_work(driver, capture):
                with spanrelay.use(spanrelay.guardrail(refuse)):
                    found += await refused(driver.ask(client, exchange, half))
                found += truth.unless_same("sent though refused", [request.path for request in server.requests], [])
                if driver.rewritable(exchange):
                    with spanrelay.use(spanrelay.request_intercept(ask_another)):
                        await driver.ask(client, exchange, half)
                    found += rewritten_otherwise(driver, exchange, bare, server.requests)
    return found


def refuse(call: Any) -> str:
    """Refuse every call."""
    return "not here"


def ask_another(call: Any) -> Any:
    """Have every call ask another model."""
    return replace(call.request, model=ANOTHER_MODEL)


async def refused(asking: Any) -> list[str]:
    """Complain where a call that is refused does not say so."""
    try:
        given = await asking
    except spanrelay.GuardrailRejected:
        return []
    return [f"refused, and yet the program gets {truth.shown(given)}"]


def rewritten_otherwise(
    driver: Driver, exchange: Exchange, bare: Sequence[Request], ours: Sequence[Request]
) -> Iterator[str]:
    """Complain where policy asked for another model, and the request does not, or says something else besides."""
    yield from truth.unless_same("rewritten requests", len(ours), len(bare))
    for mine, theirs in zip(ours, bare, strict=False):
        yield from truth.unless_same("rewritten model", driver.model_of(exchange, mine), ANOTHER_MODEL)
        rest = driver.without_model(exchange, mine)
        yield from truth.unless_same("rewritten, beside the model", rest, driver.without_model(exchange, theirs))


async def tried_run(driver: Driver, run: Sequence[Exchange]) -> Trial:
    """Try a recorded run: one trajectory has its model calls, in order, as their truth has them."""
    try:
        found = await asyncio.wait_for(assembled(driver, run), PATIENCE * len(run))
    except Exception as error:  # as above
        found = [f"{type(error).__name__}: {truth.shown(str(error))} at {place_of(error)}"]
    return Trial(driver, run[0], "run", [*found, *lost()])


async def assembled(driver: Driver, run: Sequence[Exchange]) -> list[str]:
    """Ask all of a run within one scope, and hold its trajectory against the truth."""
    half = half_of(driver, "run")
    with captured() as capture:
        with at_work(driver, capture), spanrelay.scope("run", session="recorded-run"):
            for exchange in run:
                with replaying(driver, exchange) as server:
                    async with driver.opened(exchange, server.address, half) as client:
                        await driver.ask(client, exchange, half)
        spans = [span for span in capture.spans if kind_of(span) in KINDS]
        documents = documents_of(capture.spans)
    asked = [(id_of(span), exchange) for span, exchange in zip(spans, run, strict=True) if exchange.converses]
    found = [*complaints_of(documents)]
    found += truth.unless_same("trajectories", len(documents), 1)
    steps = steps_of(documents)
    for identity, exchange in asked:
        step = steps.get(identity)
        told = truth.of_step(step, exchange) if step is not None else ["the trajectory has no step of it"]
        found += [f"{exchange.id}: {what}" for what in told]
    main = [steps[identity]["step_id"] for identity, _ in asked if steps.get(identity) in documents[0]["steps"]]
    return found + list(truth.unless_same("order of steps", main, sorted(main)))
