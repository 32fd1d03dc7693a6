"""The server's side: requests that arrive, judged before the function runs.

Across a connection a refusal is what a failed tool is: a result that says so, for the model at the other end.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import wrapt
from opentelemetry.context import attach, detach
from opentelemetry.trace import SpanKind

from spanrelay._guard import guarded
from spanrelay.codecs.mcp_tool import METHOD, encode_request, encode_result
from spanrelay.errors import GuardrailRejected, SpanRelayError
from spanrelay.instrumentation.patching import Patch
from spanrelay.pipeline.call import call_in_flight
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.typed import as_json
from spanrelay.records import ErrorInfo, ToolRequest
from spanrelay.semconv import names
from spanrelay.tracing import Tracing, describe_error
from spanrelay_mcp.calls import RemoteCall, carried, module_of_types
from spanrelay_mcp.native import is_first_generation


def patches(tracing: Tracing) -> tuple[Patch, ...]:
    """Where a server handles a request, before its own middleware."""
    servers = Servers(tracing)
    if is_first_generation():
        return (
            Patch("mcp.server.lowlevel.server", "Server._handle_request", servers.handle_first),
            Patch("mcp.server.fastmcp.tools.base", "Tool.run", _run_function, required=False),
        )
    return (
        Patch("mcp.server.runner", "ServerRunner._on_request", servers.handle),
        Patch("mcp.server.mcpserver.tools.base", "Tool.run", _run_function, required=False),
    )


async def _run_function(wrapped: Any, tool: Any, args: Any, kwargs: Any) -> Any:
    """Run the function of a tool: the client is told of a failure, of whatever kind, and nobody what was raised."""
    try:
        return await wrapped(*args, **kwargs)
    except Exception as error:
        call = call_in_flight()
        if isinstance(call, RemoteCall) and call.side is SpanKind.SERVER:
            with guarded("reading what a tool raised"):
                call.record.error = describe_error(error.__cause__ or error)
        raise


class Servers:
    """The wrappers around the handling of requests."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def handle(self, wrapped: Any, runner: Any, args: Any, kwargs: Any) -> Any:
        """Handle a request: `(context, method, params)`."""
        context, method, params = args
        if method != METHOD or not isinstance(params, Mapping) or not isinstance(params.get("name"), str):
            return await wrapped(*args, **kwargs)
        facts = {
            names.MCP_PROTOCOL: runner.connection.protocol_version,
            names.MCP_SESSION: runner.connection.session_id,
            names.RPC_REQUEST_ID: None if context.request_id is None else str(context.request_id),
        }
        return await self._run(ServerBoundary(wrapped, runner, context, params), params, params.get("_meta"), facts)

    async def handle_first(self, wrapped: Any, server: Any, args: Any, kwargs: Any) -> Any:
        """Handle a request in SDK 1: `(responder, request, ...)`. Its answer is sent here, once policy has seen it."""
        responder, request, *rest = args
        if getattr(request, "method", None) != METHOD:
            return await wrapped(*args, **kwargs)
        params = request.params.model_dump(by_alias=True, mode="json", exclude_none=True)
        boundary = FirstServerBoundary(wrapped, _Waiting(responder), request, (rest, kwargs))
        facts = {names.RPC_REQUEST_ID: str(responder.request_id)}
        answer = await self._run(boundary, params, params.get("_meta"), facts)
        if answer is not None:
            await boundary.respond(answer)
        return None

    async def _run(self, boundary: Any, params: Mapping[str, Any], meta: Any, facts: Mapping[str, str | None]) -> Any:
        context, link = carried(meta)
        call = RemoteCall(params, boundary, self._tracing, SpanKind.SERVER, facts, link)
        token = attach(context)
        try:
            return await arun(call)
        except SpanRelayError as refusal:
            if refusal is boundary.raised:
                raise
            return boundary.written(encode_result(_told(call, refusal), is_error=True))
        finally:
            detach(token)


def _told(call: RemoteCall, refusal: SpanRelayError) -> str:
    """Return what the other side is told: the reason of a guardrail is for it, a fault of policy's is not."""
    if isinstance(refusal, GuardrailRejected):
        return str(refusal)
    return f"the call of the tool {cast('ToolRequest', call.record.tool).name!r} is refused"


class ServerBoundary:
    """The way of one call of a tool to the function, through the server's own middleware.

    Args:
        wrapped: The handling of requests.
        runner: What it is a method of.
        context: Of the request.
        params: The JSON that came.
    """

    __slots__ = ("_context", "_params", "_runner", "_wrapped", "raised")

    def __init__(self, wrapped: Any, runner: Any, context: Any, params: Mapping[str, Any]) -> None:
        self._wrapped, self._runner, self._context, self._params = wrapped, runner, context, params
        self.raised: BaseException | None = None
        """What the function raised."""

    async def send(self, call: RemoteCall) -> Any:
        """Run the function with what policy left of its arguments."""
        given = call.outgoing()
        call.begin(given)
        call.record.error = None  # of the sending before this one
        params = self._params
        if given is not call.given:
            params = encode_request(ToolRequest(params["name"], given), params)
        try:
            result = await self._wrapped(self._context, METHOD, params)
        except BaseException as error:
            self.raised = error
            raise
        call.take(result)
        return result

    async def answer(self, call: RemoteCall, body: Any) -> Any:
        """An answer of policy is the result that the server would have sent."""
        result = self.written(encode_result(as_json(body), is_error=call._is_error))
        call.take(result)
        return result

    def written(self, result: dict[str, Any]) -> Any:
        """Return a result as the server sends it, in the version of the protocol that the client speaks."""
        # As an object of the SDK's, which has what newer versions insist on.
        made = module_of_types().CallToolResult.model_validate(result)
        return self._runner._serialize(METHOD, self._runner.connection.protocol_version, made)


class _Waiting(wrapt.ObjectProxy):  # pyright: ignore[reportMissingTypeArgument] - wrapt has none here
    """A responder of SDK 1 that keeps the answer."""

    def __init__(self, responder: Any) -> None:
        super().__init__(responder)
        self._self_answer: Any = None

    async def respond(self, response: Any) -> None:
        """Keep the answer."""
        self._self_answer = response


class FirstServerBoundary:
    """The same in SDK 1, whose handling of a request sends the answer itself."""

    __slots__ = ("_others", "_request", "_responder", "_wrapped", "raised")

    def __init__(self, wrapped: Any, responder: _Waiting, request: Any, others: tuple[Any, Any]) -> None:
        self._wrapped, self._responder, self._request, self._others = wrapped, responder, request, others
        self.raised: BaseException | None = None

    async def send(self, call: RemoteCall) -> Any:
        """Run the function with what policy left of its arguments; None where the client has given the call up."""
        given = call.outgoing()
        call.begin(given)
        call.record.error = None  # of the sending before this one
        args, kwargs = self._others
        try:
            await self._wrapped(self._responder, self._with(call, given), *args, **kwargs)
        except BaseException as error:
            self.raised = error
            raise
        answer = self._responder._self_answer
        if answer is None:
            call.record.incomplete = "cancelled"
        elif hasattr(answer, "code"):
            call.facts[names.RPC_STATUS] = str(answer.code)
            call.record.error = ErrorInfo("mcp.shared.exceptions.McpError", answer.message, str(answer.code))
        else:
            call.take(answer)
        return answer

    def _with(self, call: RemoteCall, given: Any) -> Any:
        if given is call.given:
            return self._request
        params = self._request.params.model_copy(update={"arguments": given})
        return self._request.model_copy(update={"params": params})

    async def answer(self, call: RemoteCall, body: Any) -> Any:
        """As `ServerBoundary.answer`."""
        result = self.written(encode_result(as_json(body), is_error=call._is_error))
        call.take(result)
        return result

    def written(self, result: dict[str, Any]) -> Any:
        """Return a result as the server sends it."""
        types = module_of_types()
        return types.ServerResult(types.CallToolResult.model_validate(result))

    async def respond(self, answer: Any) -> None:
        """Send the answer, as the SDK does: a connection that has gone is nobody's failure."""
        import anyio  # the SDK has it

        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._responder.__wrapped__.respond(answer)
