"""The plugin `policy` in force for the real SDK at a model server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.plugins.redis_server import RedisServer, redis_running

from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.policy import PolicyPlugin
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.exchange import reply
from spanrelay_testkit.model_server import ModelServer, Usage


class Shelf:
    """Holds the plugin with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._plugin = PolicyPlugin(lambda: self.now)

    def take(self, name: str) -> Any:
        return self._plugin, []


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_running(tmp_path) as server:
        yield server


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def policy(tmp_path: Any, shelf: Shelf, capture: Capture) -> Iterator[Callable[[str], Activation]]:
    """Puts `[plugins.policy]` with the given lines in force; a second time it is a reload."""
    activations: list[Activation] = []
    path = tmp_path / "spanrelay.toml"

    def put(text: str) -> Activation:
        path.write_text(f"[plugins.policy]\n{text}")
        if activations:
            activations[0].reload()
        else:
            activations.append(Activation([PolicyFile(str(path), "chosen")], shelf))  # type: ignore[arg-type]
            activations[0].start()
        return activations[0]

    yield put
    for activation in activations:
        activation.close()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """Answers `ok` for 60 and 40 tokens."""
    answer = reply("ok", usage=Usage(60, 40))
    with ModelServer(lambda request: answer) as running:
        yield running


@pytest.fixture
def client(capture: Capture, server: ModelServer) -> Iterator[openai.OpenAI]:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client
    instrumentor.uninstrument()
