"""One cell at work: who asks, what the server received, what the caller got, and all that was recorded of it."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from tests.matrix.cells import Cell
from tests.matrix.ways import MODEL, Clients

from spanrelay import flush, subscribe
from spanrelay.assembly.atif import violations
from spanrelay.assembly.exporter import TrajectoryWriter
from spanrelay.telemetry.worker import Worker
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture, captured
from spanrelay_testkit.exchange import Answer, Request, error, reply
from spanrelay_testkit.model_scripts import echo
from spanrelay_testkit.model_server import ModelServer


class World:
    """The server and its clients, made once. Echoes; the big model is broken or cut where the question says so."""

    def __init__(self) -> None:
        self.server = ModelServer(self._answer)
        self.go_on = threading.Event()
        """What a dangerous answer waits for, in its middle."""
        self.clients: Clients

    def _answer(self, request: Request) -> Answer:
        question = request.last_user_text
        if "broken" in question and request.model == MODEL:
            return error(500)
        if "cut" in question and request.model == MODEL:
            return reply(f"You said: {question}", cut_after=3)
        if "danger" in question:
            return reply(f"You said: {question}", hold=self.go_on, hold_after=7)
        return echo(request)


@dataclass
class Work:
    """What one cell did."""

    cell: Cell
    world: World
    folder: Path
    capture: Capture
    heard: list[str] = field(default_factory=list)
    """What the caller got of each answer."""
    spans: list[ReadableSpan] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    """Of model calls that have ended."""
    document: dict[str, Any] = field(default_factory=dict)
    _all_events: list[Any] = field(default_factory=list)

    async def ask(self, question: str) -> str:
        """Ask, and return what the caller got; what it got of an answer that failed is in `heard` too."""
        pieces: list[str] = []
        assert self.cell.way.ask is not None
        try:
            await self.cell.way.ask(self.world.clients, question, pieces)
        finally:
            self.heard.append("".join(pieces))
        return self.heard[-1]

    @property
    def received(self) -> list[Request]:
        """What the server has received."""
        return self.world.server.requests

    @property
    def questions(self) -> list[str]:
        """What the server was asked."""
        return [request.last_user_text for request in self.received]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The steps of the trajectory that say something, those of side conversations in their place."""
        beside = {each["trajectory_id"]: each for each in self.document.get("subagent_trajectories", ())}
        found: list[dict[str, Any]] = []
        for step in self.document["steps"]:
            results = step.get("observation", {}).get("results", [])
            references = [each for result in results for each in result.get("subagent_trajectory_ref", ())]
            inner = [beside[reference["trajectory_id"]]["steps"] for reference in references]
            found += [each for steps in inner for each in steps] if references else [step]
        return found

    def settle(self) -> None:
        """Take in all that was recorded so far."""
        assert flush(10)
        self.spans = list(self.capture.spans)
        told = [event.to_dict() for event in self._all_events]
        self.events = [event for event in told if event.get("scope_category") == "end" and event["category"] == "llm"]

    def read_trajectory(self) -> None:
        """Take in the document of the agent, after everything has been written."""
        documents = [json.loads(path.read_text()) for path in self.folder.glob("*.json")]
        [self.document] = [document for document in documents if document["agent"]["name"] == "cell"]
        assert violations(self.document) == []


@asynccontextmanager
async def working(cell: Cell, world: World, folder: Path, *, sampler: Sampler = ALWAYS_ON) -> AsyncIterator[Work]:
    """Record what one cell does: spans, events and a trajectory, over the one server."""
    world.server.requests.clear()
    world.go_on.clear()
    with captured(sampler=sampler) as capture:
        capture.relay.worker = worker = Worker(lambda: TrajectoryWriter(folder), None)
        instrumentor = OpenAIInstrumentor()
        instrumentor.instrument(tracer_provider=capture.provider)
        work = Work(cell, world, folder, capture)
        try:
            with subscribe(work._all_events.append, name="listener"):
                yield work
        finally:
            world.go_on.set()
            instrumentor.uninstrument()
            worker.shutdown(10)
