"""An SDK that is imported anew, reloaded, or loaded late is patched as it was the first time."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wrapt

from spanrelay import imports
from spanrelay.instrumentation.patching import Patch, Patches

SOURCE = """
class Client:
    def ask(self):
        return 1

class Special(Client):
    def ask(self):
        return 10
"""


def twice(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs) * 2


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that can be imported, with a module `core`."""
    folder = tmp_path / "sdk_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "core.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    waiting = dict(imports._waiting)
    yield f"{folder.name}.core"
    imports._waiting.clear()
    imports._waiting.update(waiting)
    forget(folder.name)


def forget(package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def anew(module: str) -> Any:
    forget(module.partition(".")[0])
    return importlib.import_module(module)


def patches_of(module: str, *, derived: bool = False, made: list[int] | None = None) -> Patches:
    def table() -> tuple[Patch, ...]:
        if made is not None:
            made.append(1)
        return (Patch(module, "Client.ask", twice, derived=derived),)

    return Patches("a package", (module,), table)


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize("again", [anew, lambda name: importlib.reload(sys.modules[name])])
def test_what_is_executed_again_is_patched_again_and_the_old_stays_patched(
    sdk: str, imported: bool, again: Any
) -> None:
    patches, made = patches_of(sdk, made=(tables := [])), []
    if imported:
        made.append(importlib.import_module(sdk).Client)
    patches.apply()
    if not imported:
        made.append(importlib.import_module(sdk).Client)
    made += [again(sdk).Client for _ in range(2)]
    assert [kind().ask() for kind in made] == [2, 2, 2]
    assert len(tables) == (3 if again is anew else 1), (
        "a reloaded module keeps its table, another of its name has its own"
    )
    patches.apply()
    assert [kind().ask() for kind in made] == [2, 2, 2]
    patches.undo()
    assert [kind().ask() for kind in made] == [1, 1, 1]
    assert again(sdk).Client().ask() == 1
    patches.apply()
    assert again(sdk).Client().ask() == 2
    assert sys.modules[sdk].Client().ask() == 2
    patches.undo()


def test_classes_that_derive_from_a_promise_that_is_made_again_are_patched(sdk: str) -> None:
    patches = patches_of(sdk, derived=True)
    patches.apply()
    kinds = [importlib.import_module(sdk).Special, anew(sdk).Special, importlib.reload(sys.modules[sdk]).Special]
    kinds.append(type("Later", (sys.modules[sdk].Client,), {"ask": lambda self: 100}))
    assert [kind().ask() for kind in kinds] == [20, 20, 20, 200]
    patches.undo()
    assert [kind().ask() for kind in kinds] == [10, 10, 10, 100]
    assert all("__init_subclass__" not in vars(kind.__mro__[1]) for kind in kinds)


def test_what_is_not_used_any_more_is_not_kept(sdk: str) -> None:
    for derived in (False, True):
        patches = patches_of(sdk, derived=derived)
        patches.apply()
        old = weakref.ref(anew(sdk).Client)
        anew(sdk)
        gc.collect()
        assert old() is None
        patches.undo()


def test_a_submodule_that_is_loaded_at_its_first_use_is_patched_then(sdk: str) -> None:
    patches = patches_of(sdk)
    patches.apply()
    for _ in range(2):
        spec = importlib.util.find_spec(sdk)
        assert spec is not None and spec.loader is not None
        loader = importlib.util.LazyLoader(spec.loader)
        spec.loader = loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[sdk] = module
        loader.exec_module(module)
        assert module.Client().ask() == 2
        del sys.modules[sdk]
    patches.undo()


def test_a_module_keeps_its_own_loader(sdk: str) -> None:
    patches_of(sdk).apply()
    module = importlib.import_module(sdk)
    assert type(module.__loader__).__name__ == type(module.__spec__.loader).__name__ == "SourceFileLoader"
    assert type(module.__loader__) is type(importlib.import_module("sdk_of_a_test").__loader__)


def test_others_hooks_for_the_same_module_fire_too(sdk: str) -> None:
    fired: list[str] = []
    patches = patches_of(sdk)
    wrapt.register_post_import_hook(lambda module: fired.append("before"), sdk)
    patches.apply()
    wrapt.register_post_import_hook(lambda module: fired.append("after"), sdk)
    assert importlib.import_module(sdk).Client().ask() == 2
    assert sorted(fired) == ["after", "before"]
    assert anew(sdk).Client().ask() == 2
    patches.undo()
