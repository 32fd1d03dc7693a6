"""What the cells share: one server, its clients, and the rules as an installed plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.matrix import rules
from tests.matrix.ways import Clients
from tests.matrix.work import World
from tests.plugins.installed import distribution, on_path


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A distribution of the rules is installed."""
    source = Path(rules.__file__).read_text()
    entry_points = "[spanrelay_plugin]\nmatrix_rules = matrix_rules:Rules\n"
    site = distribution(tmp_path_factory.mktemp("site"), "matrix-rules", "matrix_rules", source, entry_points)
    with on_path(site):
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(plugin: None) -> AsyncIterator[World]:
    made = World()
    with made.server:
        made.clients = Clients(made.server.url)
        yield made
        await made.clients.close()
