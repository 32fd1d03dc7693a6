"""Client and server in two processes, each under `opentelemetry-instrument`: one trace, and policy of either side."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.exporters.otlp_server import OtlpServer
from tests.programs import command, environment

from .ways import FIRST

SERVER = f"""
import sys
from mcp.server.{"fastmcp import FastMCP" if FIRST else "mcpserver import MCPServer"} as Server

server = Server("weather")


@server.tool()
def weather(city: str) -> str:
    "Say how the weather is."
    return f"sunny in {{city}}"


@server.tool()
def forecast(city: str) -> str:
    "Say what the weather will be."
    raise SystemError("it must not run")


if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    import socket

    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="error")).run([listening])
"""
CLIENT = """
import asyncio
import os
import sys

import spanrelay
from mcp import ClientSession, StdioServerParameters
from mcp.client import streamable_http
from mcp.client.stdio import stdio_client


def streams():
    way, *rest = sys.argv[1:]
    if way == "http":
        older = getattr(streamable_http, "streamablehttp_client", None)
        return getattr(streamable_http, "streamable_http_client", older)(f"http://127.0.0.1:{rest[0]}/mcp")
    # The SDK hands down next to nothing of the environment by itself.
    handed = {**os.environ, "OTEL_SERVICE_NAME": "weather"}
    return stdio_client(StdioServerParameters(command=rest[0], args=rest[1:], env=handed, cwd=os.environ["THERE"]))


async def main():
    async with streams() as (read, write, *_), ClientSession(read, write) as session:
        await session.initialize()
        with spanrelay.scope("desk", kind="agent"):
            for name, arguments in (("weather", {"city": "Rome"}), ("forecast", {"city": "Rome"})):
                result = await session.call_tool(name, arguments)
                print(result.content[0].text)
            try:
                await session.call_tool("secret", {})
            except spanrelay.GuardrailRejected as refusal:
                print(refusal)


asyncio.run(main())
"""
AT_THE_SERVER = '[plugins.policy.tools]\ndeny = ["forecast"]\n'
AT_THE_CLIENT = '[plugins.policy.tools]\ndeny = ["secret"]\n'


class Span(NamedTuple):
    service: str
    scope: str
    name: str
    kind: int
    trace: bytes
    id: bytes
    parent: bytes


def collected(collector: OtlpServer) -> list[Span]:
    found: list[Span] = []
    for path, body in collector.accepted:
        if path != "/v1/traces":
            continue
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            of = {each.key: each.value.string_value for each in resource.resource.attributes}
            found += [
                Span(of["service.name"], scope.scope.name, s.name, s.kind, s.trace_id, s.span_id, s.parent_span_id)
                for scope in resource.scope_spans
                for s in scope.spans
            ]
    return found


@contextlib.contextmanager
def served(folder: Path, settings: dict[str, str]) -> Iterator[list[str]]:
    """Start a server over HTTP; yields what the client is to be told of it."""
    started = subprocess.Popen(
        command("server.py", "http"),
        cwd=folder,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    try:
        yield ["http", started.stdout.readline().strip()]
    finally:
        started.terminate()
        started.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["stdio", "http"])
def test_two_processes_are_one_trace_and_each_holds_its_own_policy(tmp_path: Path, way: str) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, program, policy in ((here, CLIENT, AT_THE_CLIENT), (there, SERVER, AT_THE_SERVER)):
        folder.mkdir()
        (folder / f"{'client' if folder is here else 'server'}.py").write_text(program)
        (folder / "spanrelay.toml").write_text(policy)
    with contextlib.closing(OtlpServer()) as collector, contextlib.ExitStack() as stack:
        exporting = {
            "OTEL_SERVICE_NAME": "desk",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "THERE": str(there),
        }
        settings = environment(None, exporting)
        told = ["stdio", *command("server.py", "stdio")]
        if way == "http":
            told = stack.enter_context(served(there, {**settings, "OTEL_SERVICE_NAME": "weather"}))
        done = subprocess.run(
            command("client.py", *told),
            cwd=here,
            env=settings,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        stack.close()
    said = done.stdout.splitlines()
    assert said[0] == "sunny in Rome"
    assert "forecast" in said[1] and "refused the call" in said[1]
    assert "secret" in said[2] and "refused the call" in said[2]
    spans = collected(collector)
    [agent] = [span for span in spans if "desk" in span.name]
    calls = {
        (span.name, span.service): span
        for span in spans
        if span.name.startswith("tools/call") and span.scope == "spanrelay_mcp"
    }
    assert sorted(calls) == [
        ("tools/call forecast", "desk"),
        ("tools/call forecast", "weather"),
        ("tools/call secret", "desk"),
        ("tools/call weather", "desk"),
        ("tools/call weather", "weather"),
    ]
    assert not any("tools/call" in span.name for span in spans if span.scope == "mcp-python-sdk")
    for name in ("weather", "forecast"):
        client, server = calls[f"tools/call {name}", "desk"], calls[f"tools/call {name}", "weather"]
        assert client.parent == agent.id
        assert server.parent == client.id
        assert client.trace == server.trace == agent.trace
        assert (client.kind, server.kind) == (3, 2)
