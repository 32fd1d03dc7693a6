"""The ASGI application: takes a request, says who may ask and how much, and passes on what comes back."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import aiohttp
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import TracerProvider

from spanrelay._guard import failed, losses
from spanrelay.errors import GuardrailRejected, MiddlewareError
from spanrelay.gateway import bodies, refusals
from spanrelay.gateway.bodies import Gone, Receive, Upload
from spanrelay.gateway.exchange import Answer, Declined, Exchange, ExchangeCall, Sent, closing, place_of, told
from spanrelay.gateway.forwarding import Client, Headers, Unreachable, chunks_of, request_headers, response_headers
from spanrelay.gateway.limits import Limits, TooLarge
from spanrelay.gateway.routes import API, Asked, api_of
from spanrelay.gateway.upstreams import Upstream, Upstreams
from spanrelay.instrumentation import batches
from spanrelay.instrumentation.targets import Address, Target, Targets, aask
from spanrelay.pipeline.call import Opened
from spanrelay.pipeline.middleware import is_covered
from spanrelay.scopes import current_scope
from spanrelay.tracing import Tracing

Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = Mapping[str, Any]

_NAME, _VERSION = "spanrelay.gateway", "0.1.0"
_HEALTH = b"/healthz"
TOKEN = b"x-spanrelay-token"
"""A header that names the secret where the path does not."""


class App:
    """The gateway as an ASGI application.

    Args:
        upstreams: Who is asked.
        limits: What a request may take.
        secret: What a path must begin with, as `/r/<secret>`, or a header must name; None lets everybody ask who can
            connect.
        around: The context that every exchange is under.
        tracer_provider: Opens the spans; by default the one that `activate()` was given, else the global one.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        limits: Limits,
        *,
        secret: str | None = None,
        around: Context | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self._upstreams, self._limits = upstreams, limits
        self._secret = None if secret is None else secret.encode()
        self._around = Context() if around is None else around
        self._tracing = Tracing(_NAME, _VERSION, tracer_provider)
        self._targets = Targets()
        self._client: Client
        self._open = 0

    @property
    def exchanges(self) -> int:
        """How many requests are being answered."""
        return self._open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        path: bytes = scope["raw_path"]
        if path == _HEALTH:
            return await _passed_on(told(200, b'{"status":"ok"}'), send)
        allowed = self._allowed(path, headers)
        upstream, below = self._upstreams.find(path if allowed is None else allowed, headers)
        api = api_of(upstream, below)
        refuse = partial(_refuse, send, api)
        if allowed is None:
            return await refuse(401, "this gateway asks for its secret in the path or a header", "gateway_secret")
        if b"upgrade" in headers and "websocket" in _said(scope["headers"], b"upgrade").casefold():
            return await refuse(404, "this gateway speaks no WebSocket; ask over HTTP", "no_websocket")
        if self._open >= self._limits.exchanges:
            losses.add("requests that the gateway was too busy for")
            return await refuse(503, "the gateway answers as many requests as it may; ask again", "gateway_busy")
        self._open += 1
        try:
            sent = Sent(scope["method"], upstream, below, scope["query_string"], scope["headers"])
            await self._answer(sent, headers, receive, send)
        except TooLarge:
            losses.add("requests that were too large for the gateway")
            most = self._limits.body_bytes
            await refuse(413, f"the request has more than {most} bytes, which the gateway takes at most", "too_large")
        except Gone:
            pass
        except Unreachable as error:
            await refuse(error.status, str(error), "upstream_unreachable")
        except (GuardrailRejected, MiddlewareError) as error:
            await refuse(403, str(error), refusals.BY_POLICY)
        except Exception as error:  # ours: the client is told, whatever else becomes of it
            failed("answering a request at the gateway", error)
            await refuse(502, f"the gateway failed: {type(error).__name__}", "gateway_failed")
        finally:
            self._open -= 1
        return None

    async def _live(self, receive: Receive, send: Send) -> None:
        """Keep connections to upstreams from the start of the server until its end."""
        await receive()
        self._client = Client(self._limits, self._upstreams)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._client.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _allowed(self, path: bytes, headers: Mapping[bytes, bytes]) -> bytes | None:
        """Return the path without the secret; None where it is not there."""
        secret = self._secret
        if secret is None:
            return path
        if path.startswith(b"/r/"):
            given, slash, rest = path[3:].partition(b"/")
            return slash + rest if hmac.compare_digest(given, secret) else None
        return path if hmac.compare_digest(headers.get(TOKEN, b""), secret) else None

    async def _answer(self, sent: Sent, named: Mapping[bytes, bytes], receive: Receive, send: Send) -> None:
        """Answer what asks a model by the pipeline, and pass on whatever else it is."""
        limit, kind = self._limits.body_bytes, _said(sent.headers, b"content-type")
        length = int(named.get(b"content-length", b"0"))
        if length > limit:
            raise TooLarge
        api = api_of(sent.upstream, sent.path)
        may_ask = _may_ask(sent.method, kind.casefold()) or api.has(sent.upstream.path + sent.path)
        token, upload, watch = attach(place_of(named, self._around)), None, None
        try:
            covered = is_covered(current_scope())
            data: Any = None
            if may_ask or (covered and (length or b"transfer-encoding" in named)):
                data = await bodies.whole(receive, limit)
            elif length or b"transfer-encoding" in named or b"content-length" in named:
                data = upload = Upload(receive, limit)
            watch = asyncio.ensure_future(_leave_with(receive, asyncio.current_task(), upload))
            asked = None
            if isinstance(data, bytes):
                read = bodies.read(data, _said(sent.headers, b"content-encoding"), kind, limit, strictly=covered)
                sent = sent._replace(data=data, read=read.data, is_form=read.is_form)
                body = batches.in_parts(read.body, sent.path) if covered and not read.is_form else read.body
                asked = api.asked(sent.path, sent.query, body)
            answer = await (self._forwarded(sent, data) if asked is None else self._exchanged(sent, asked))
            await _passed_on(answer, send)
        except asyncio.CancelledError:
            if watch is None or not watch.done():  # the gateway ends, and not the client
                raise
        finally:
            if watch is not None:
                watch.cancel()
            detach(token)

    async def _exchanged(self, sent: Sent, asked: Asked) -> Answer:
        """Ask a model, as one call of the pipeline."""
        target = self._target(sent, asked)
        opened = target.open(self._tracing)
        try:
            return await aask(
                opened, partial(self._call, target, opened, sent, asked), self._forwarded, (sent, sent.data), {}
            )
        except Declined as declined:
            return declined.answer
        except (GuardrailRejected, MiddlewareError, Unreachable):
            raise
        except Exception as error:
            if is_covered(current_scope()):  # whatever policy raises, the call is refused
                raise MiddlewareError(f"policy failed: {type(error).__name__}: {error}") from error
            raise

    def _target(self, sent: Sent, asked: Asked) -> Target:
        upstream, model, stream = sent.upstream, asked.model, bool(asked.wire.get("stream"))
        host, names = upstream.host, asked.deployment or model
        key = (upstream.name, id(asked.route), asked.api.name, model, names, stream)
        return self._targets.known(key, lambda: _made(upstream, asked, host, names, stream=stream))

    def _call(self, target: Target, opened: Opened, sent: Sent, asked: Asked) -> ExchangeCall:
        call: ExchangeCall = target.call(
            asked.wire, Exchange(self._client, sent, asked), self._tracing, opened, ExchangeCall
        )
        call.model_kept = not target.route.answers
        call.unreadable, call.offered_beside = asked.unreadable, asked.offers
        call.named_beside = asked.named if asked.own_model is None else (*asked.named, asked.own_model)
        if asked.deployment is not None:
            call.url_model = lambda _: asked.deployment
        return call

    async def _forwarded(self, sent: Sent, data: Any) -> Answer:
        """Send a request on as it is, and return what comes back as it is."""
        headers = request_headers(sent.headers, counted=isinstance(data, Upload))
        try:
            response = await self._client.send(sent.method, sent.upstream, sent.path, sent.query, headers, data)
        except Unreachable:
            if isinstance(data, Upload) and data.failure is not None:
                raise data.failure from None
            raise
        return Answer(response.status, response_headers(response), chunks=chunks_of(response), close=closing(response))


def _made(upstream: Upstream, asked: Asked, host: str, names: str | None, *, stream: bool) -> Target:
    provider, route = asked.api.provider(host), asked.route
    if route.dialect is not None:
        route = replace(route, codec=route.dialect(provider, host, names))
    return Target(Address(host, upstream.port), route, provider, asked.model, stream=stream)


def _may_ask(method: str, kind: str) -> bool:
    """Whether a request may ask a model: with JSON, a form, or what does not say what it is."""
    if method in ("GET", "HEAD", "OPTIONS", "DELETE"):
        return False
    return not kind or "json" in kind or kind.startswith(("multipart/form-data", "application/x-www-form-urlencoded"))


def _said(headers: Headers, name: bytes) -> str:
    """Return all that headers of a name say: who comes after may heed any of them."""
    return ", ".join([value.decode("latin-1") for each, value in headers if each == name])


async def _leave_with(receive: Receive, task: asyncio.Task[Any] | None, upload: Upload | None) -> None:
    """Cancel `task` when the client leaves before it has its answer, and has sent all of an `upload`."""
    if upload is not None:
        await upload.over.wait()
    while (await receive())["type"] != "http.disconnect":
        pass
    if task is not None:
        task.cancel()


async def _passed_on(answer: Answer, send: Send) -> None:
    """Send an answer as it comes, and no faster than the client takes it.

    One that breaks off breaks off for the client too; what policy refuses in the middle is told as an event.
    """
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    chunks = answer.chunks
    if chunks is None:
        await send({"type": "http.response.body", "body": answer.body})
        return
    try:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
        return  # uvicorn closes a connection whose answer is not at its end
    except Exception as error:  # whatever policy raises, the rest is refused
        if answer.refused is None:
            return
        await send({"type": "http.response.body", "body": answer.refused(str(error)), "more_body": True})
    finally:
        if answer.close is not None:
            await answer.close()
    await send({"type": "http.response.body"})


async def _refuse(send: Send, api: API, status: int, message: str, code: str) -> None:
    await _passed_on(told(status, refusals.body_of(api, status, message, code)), send)
