"""Each place where an SDK is wrapped is there, in the versions that are installed here: the oldest, or the newest."""

from __future__ import annotations

import importlib
import inspect
from importlib.util import find_spec
from typing import Any

import pytest
from tests.oldest.environments import ENVIRONMENTS, canonical, instrumentors

from spanrelay.installed import version_of
from spanrelay.instrumentation.patching import Patch
from spanrelay.tracing import Tracing

# What LiteLLM and other SDKs warn of while they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")

HERE = [kind for kind in instrumentors() if find_spec(kind.modules[0].partition(".")[0]) and version_of(kind.package)]
"""Those whose SDK is here."""
PLACES = {
    f"{kind.name} {patch.module} {patch.attribute}": patch
    for kind in HERE
    for patch in kind().patches(Tracing(kind.name))
    if find_spec(patch.module.partition(".")[0])
}


@pytest.mark.parametrize("patch", PLACES.values(), ids=PLACES.keys())
def test_each_place_is_there_but_for_what_newer_versions_have(patch: Patch) -> None:
    try:
        found: Any = importlib.import_module(patch.module)
        for name in patch.attribute.split("."):
            found = inspect.getattr_static(found, name)
    except (ImportError, AttributeError):
        if not patch.newer:
            raise
    else:
        assert callable(getattr(found, "__func__", found))


def test_what_is_installed_is_the_oldest_where_it_is_meant_to_be() -> None:
    named = [each for each in ENVIRONMENTS if all(version_of(sdk) == each.pins[canonical(sdk)] for sdk in each.sdks)]
    assert len(named) <= 1
    assert PLACES
