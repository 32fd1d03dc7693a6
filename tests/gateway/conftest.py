"""A gateway in front of the testkit's server, and the SDKs' clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spanrelay import gateway
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.model_server import ModelServer


@pytest.fixture
def standing(capture: Capture) -> Iterator[Callable[..., gateway.Gateway]]:
    """Starts gateways in front of a server: `standing(server, **what start takes)`."""
    started: list[gateway.Gateway] = []

    def stand(server: ModelServer, **options: Any) -> gateway.Gateway:
        upstreams = {"openai": server.url, "anthropic": server.address, "gemini": server.address}
        options = {"upstreams": upstreams, "tracer_provider": capture.provider, **options}
        started.append(gateway.start(**options))
        return started[-1]

    yield stand
    for each in started:
        assert each.stop(), "something was still being answered"
