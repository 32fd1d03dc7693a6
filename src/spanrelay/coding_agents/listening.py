"""What a run does with what arrives: keeps it, sends telemetry on, answers hooks, and notices where no hooks come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from spanrelay._guard import losses
from spanrelay._voice import say
from spanrelay.coding_agents import judging
from spanrelay.coding_agents.folder import LARGEST, Belongs, RunFolder
from spanrelay.coding_agents.hooks import answered, keep_transcripts
from spanrelay.coding_agents.launching import Agent, Onward
from spanrelay.coding_agents.sending import Sender

SILENCE_S = 3.0
"""Seconds after the first sign of a model call within which the first hook has to come."""

_SIGNS = (b"llm_request", b"api_request", b"codex.sse_event", b"github.copilot", b"ai.streamText")
"""What telemetry says once a model has been asked."""


class Listening:
    """Is given all that a run's program reports.

    Args:
        folder: Where it is kept.
        agents: Who can report hooks, by name.
        belongs: What the run's calls belong to.
    """

    def __init__(self, folder: RunFolder, agents: Mapping[str, Agent], belongs: Belongs) -> None:
        self._folder, self._agents = folder, agents
        self._belongs = belongs
        self._sender: Sender | None = None
        self._heard = threading.Event()
        self._suspicion: threading.Timer | None = None
        self._lock = threading.Lock()
        self._expected: tuple[str, Callable[[], None]] | None = None

    def send_on(self, onward: Onward) -> None:
        """Send telemetry on to where the user had it sent."""
        if onward.urls:
            self._sender = Sender(onward)

    def expect_hooks(self, title: str, stop: Callable[[], None]) -> None:
        """Tell, and with policy for tools `stop`, where a model is asked and no hook comes."""
        self._expected = (title, stop)

    def close(self) -> None:
        """Send on what waits."""
        if self._suspicion is not None:
            self._suspicion.cancel()
        if self._sender is not None:
            self._sender.close()

    # ── telemetry

    def telemetry(self, signal: str, request: bytes, kind: str, headers: Mapping[str, str]) -> None:
        """Take in an export request."""
        if self._sender is not None:
            self._sender.send(signal, request, kind, headers)
        if signal == "metrics" or not request:
            return
        if len(request) > LARGEST:
            losses.add("export requests that are too large to be kept")
            return
        self._folder.add_telemetry(request, is_json=kind == "application/json")
        if self._expected is not None and not self._heard.is_set() and any(sign in request for sign in _SIGNS):
            self.model_was_asked()

    def model_was_asked(self) -> None:
        """Expect a hook from now on."""
        with self._lock:
            if self._suspicion is None and self._expected is not None and not self._heard.is_set():
                self._suspicion = threading.Timer(SILENCE_S, self._tell_of_silence)
                self._suspicion.daemon = True
                self._suspicion.start()

    def _tell_of_silence(self) -> None:
        if self._heard.is_set() or self._expected is None:
            return
        title, stop = self._expected
        told = f"{title} has asked a model, and runs no hooks: they are switched off or not trusted"
        if judging.holds_for("tool"):
            say(f"{told}. Policy would not hold for its tools, so it is stopped")
            stop()
        else:
            say(f"{told}; the trajectory is made of what else it reports")

    # ── hooks

    def hook(self, agent: str, data: bytes) -> bytes:
        """Return what a hook is to print."""
        self._heard.set()
        known = self._agents.get(agent)
        if known is None:
            losses.add("hooks of agents that are not known")
            return b""
        done = answered(known, data, session=self._belongs.session, user=self._belongs.user)
        if done is None:
            return b""
        self._folder.add_hook(agent, done.hook, done.answer)
        keep_transcripts(self._folder, known, done.event)
        return done.answer
