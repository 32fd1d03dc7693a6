"""The plugin `response_cache` in force, from a file alone, at a time that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.loading import Shelf
from spanrelay.plugins.response_cache import ResponseCachePlugin


class Clock(Shelf):
    """What plugins are taken from; the cache has a clock that the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0

    def take(self, name: str) -> Any:
        """Return a plugin."""
        if name == "response_cache":
            return ResponseCachePlugin(lambda: self.now), []
        return super().take(name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def in_force(tmp_path: Any, clock: Clock) -> Iterator[Callable[..., Activation]]:
    """Puts what a file says in force; by default that answers are given again."""
    activations: list[Activation] = []

    def put(text: str = "", *, mode: str = "apply", namespace: str = "tests") -> Activation:
        path = tmp_path / f"{len(activations)}.toml"
        path.write_text(f'[plugins.response_cache]\nnamespace = "{namespace}"\nmode = "{mode}"\n{text}')
        activations.append(Activation([PolicyFile(str(path), "chosen")], clock))
        activations[-1].start()
        return activations[-1]

    yield put
    for activation in activations:
        activation.close()
