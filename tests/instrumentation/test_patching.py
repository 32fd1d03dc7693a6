"""Patch tables: what happens where a package has no such place."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from spanrelay._guard import losses
from spanrelay.instrumentation.patching import Patch, Patches
from spanrelay.plugins.demand import demand


def twice(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs) * 2


@pytest.mark.swallows
def test_policy_does_not_miss_a_place_that_only_the_record_is_poorer_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = ModuleType("patched_by_a_test")
    module.one = lambda: 1
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(demand, "stops", True)  # a missing place that policy needs would end this process
    table = (Patch(module.__name__, "one", twice), Patch(module.__name__, "gone", twice, required=False))
    patches = Patches("a package", (module.__name__,), lambda: table)
    patches.apply()
    assert module.one() == 2
    assert "a package (unknown version) has no patched_by_a_test.gone" in caplog.text
    assert losses.take() == {"patch points not found in a package": 1}
    patches.undo()
    assert module.one() == 1
