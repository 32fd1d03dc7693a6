"""Classes below one: patched whenever they are made, whatever that one does itself when it is derived from."""

from __future__ import annotations

from typing import Any

import pytest

from spanrelay.instrumentation.subclasses import Subclasses


def twice(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs) * 2


@pytest.mark.parametrize("hooked", [False, True])
def test_a_class_that_is_told_of_those_below_goes_on_being_told(hooked: bool) -> None:
    told: list[tuple[str, Any]] = []

    class Root:
        if hooked:

            def __init_subclass__(cls, mark: Any = None, **options: Any) -> None:
                super().__init_subclass__(**options)
                told.append((cls.__name__, mark))

    options: dict[str, Any] = {"mark": 1} if hooked else {}
    subclasses = Subclasses({"ask": twice})
    subclasses.patch(Root)

    class Within(Root, **options):
        def ask(self) -> int:
            return 1

    assert Within().ask() == 2
    subclasses.restore()
    assert Within().ask() == 1

    class After(Root, **options):
        def ask(self) -> int:
            return 1

    assert After().ask() == 1
    assert told == ([("Within", 1), ("After", 1)] if hooked else [])
    assert ("__init_subclass__" in vars(Root)) is hooked
