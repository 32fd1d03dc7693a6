"""Patch tables: what happens where a package has no such place, or somebody else was there before."""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from types import ModuleType
from typing import Any

import pytest
import wrapt
from typing_extensions import deprecated

from spanrelay._guard import losses
from spanrelay.instrumentation import patching
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


def plus_one(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs) + 1


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Patches:
    """A table for `Client.ask`, not in force yet."""
    module = ModuleType("patched_by_a_test")
    module.Client = type("Client", (), {"ask": lambda self: 1, "__module__": module.__name__})
    module.Special = type("Special", (module.Client,), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return Patches("a package", (module.__name__,), lambda: (Patch(module.__name__, "Client.ask", twice),))


def test_a_wrapper_that_somebody_put_before_us_into_a_class_below_does_not_pass_ours_by(package: Patches) -> None:
    module: Any = sys.modules["patched_by_a_test"]
    wrapt.wrap_function_wrapper(module, "Special.ask", plus_one)
    wrapt.wrap_function_wrapper(module, "Special.ask", plus_one)
    package.apply()
    assert (module.Client().ask(), module.Special().ask()) == (2, 4)
    package.undo()
    assert (module.Client().ask(), module.Special().ask()) == (1, 3)


def test_a_class_below_that_keeps_the_method_itself_does_not_pass_ours_by(package: Patches) -> None:
    module: Any = sys.modules["patched_by_a_test"]
    module.Special.ask = kept = module.Client.ask
    package.apply()
    assert (module.Client().ask(), module.Special().ask()) == (2, 2)
    package.undo()
    assert vars(module.Special)["ask"] is kept


@pytest.mark.parametrize("policy", [False, True])
@pytest.mark.parametrize("kind", ["wrapt", "a function"])
def test_a_wrapper_that_was_there_before_us_is_told_once(
    package: Patches, policy: bool, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module: Any = sys.modules["patched_by_a_test"]
    below = module.Client.ask
    if kind == "wrapt":
        wrapt.wrap_function_wrapper(module, "Client.ask", plus_one)
    else:
        module.Client.ask = functools.wraps(below)(lambda self: below(self) + 1)
    monkeypatch.setattr(demand, "policy", policy)
    caplog.set_level("DEBUG", "spanrelay")
    for _ in range(2):
        package.apply()
        assert module.Client().ask() == 4
        package.undo()
    [told] = [record for record in caplog.records if "has wrapped Client.ask before SpanRelay" in record.message]
    assert told.levelname == ("WARNING" if policy else "DEBUG")


@pytest.mark.parametrize("imported", [deprecated, sys.modules[deprecated.__module__]], ids=["from", "import"])
def test_a_decorator_that_the_module_itself_uses_is_nobody_elses(
    package: Patches, imported: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module: Any = sys.modules["patched_by_a_test"]
    monkeypatch.setattr(module.Client, "ask", deprecated("ask another")(module.Client.ask))
    monkeypatch.setattr(module, "imported", imported, raising=False)
    monkeypatch.setattr(demand, "policy", True)
    package.apply()
    with pytest.deprecated_call(match="ask another"):
        assert module.Client().ask() == 2
    assert not caplog.records


@pytest.mark.parametrize("stops", [False, True])
def test_a_wrapper_below_that_cannot_be_reached_is_told_and_no_policy_is_missed(
    package: Patches, stops: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module: Any = sys.modules["patched_by_a_test"]
    below = module.Client.ask

    @functools.wraps(below)
    def theirs(self: Any) -> int:
        return below(self) + 1

    module.Special.ask = theirs
    ended: list[str] = []
    monkeypatch.setattr(demand, "stops", stops)
    monkeypatch.setattr(patching, "end_now", ended.append)
    package.apply()
    assert "has wrapped Client.ask in a class below, so its calls are not seen" in caplog.text
    assert len(ended) == stops
    package.undo()
    assert module.Special().ask() == 2


@pytest.mark.parametrize("hooked", [False, True])
def test_a_promise_is_wrapped_in_every_class_that_keeps_it_now_and_later(
    hooked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Model:
        if hooked:

            def __init_subclass__(cls, **options: Any) -> None:
                super().__init_subclass__(**options)
                made.append(cls.__name__)

        def ask(self) -> int:
            return 0

    class Now(Model):
        def ask(self) -> int:
            return 1

    class Silent(Now):
        pass

    class Beside:
        def ask(self) -> int:
            return 5

    class Mixed(Beside, Model):
        pass

    module = ModuleType("patched_by_a_test")
    module.Model = Model
    monkeypatch.setitem(sys.modules, module.__name__, module)
    table = (Patch(module.__name__, "Model.ask", twice, derived=True),)
    patches = Patches("a package", (module.__name__,), lambda: table)
    patches.apply()

    class Later(Silent):
        def ask(self) -> int:
            return super().ask() + 1

    def forgotten() -> weakref.ref[type]:
        class Brief(Now):
            def ask(self) -> int:
                return super().ask()

        assert Brief().ask() == 4
        return weakref.ref(Brief)

    brief = forgotten()
    gc.collect()
    assert brief() is None, "a class that nobody uses is not kept"
    assert [kind().ask() for kind in (Model, Now, Silent, Later, Mixed, Beside)] == [0, 2, 2, 6, 10, 5]
    patches.undo()
    assert [kind().ask() for kind in (Model, Now, Silent, Later, Mixed)] == [0, 1, 1, 2, 5]
    assert "ask" not in vars(Mixed)
    assert ("__init_subclass__" in vars(Model)) is hooked
    assert made == (["Now", "Silent", "Mixed", "Later", "Brief"] if hooked else [])
    patches.apply()
    assert Later().ask() == 6


@pytest.mark.swallows
def test_a_promise_that_nobody_makes_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = ModuleType("patched_by_a_test")
    module.Model = type("Model", (), {})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    table = (Patch(module.__name__, "Model.ask", twice, derived=True),)
    Patches("a package", (module.__name__,), lambda: table).apply()
    assert "a package (unknown version) has no patched_by_a_test.Model.ask" in caplog.text
    assert losses.take() == {"patch points not found in a package": 1}
