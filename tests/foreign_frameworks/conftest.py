"""The model that agents of frameworks ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.foreign_frameworks.weather import answers

from spanrelay_testkit.model_server import ModelServer


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(answers) as server:
        yield server
