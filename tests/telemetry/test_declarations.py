"""What is wrong with a declared observer is said where it is declared, and not by what is missing later."""

from collections.abc import Callable
from typing import Any, get_args

import pytest

import spanrelay
from spanrelay.records import Kind
from spanrelay.registry import kinds_of, name_of
from spanrelay.telemetry.observers import Field

DECLARE: list[Callable[..., Any]] = [spanrelay.sanitizer, spanrelay.metadata_injector, spanrelay.subscriber]


def quiet(_: Any) -> None:
    return None


@pytest.mark.parametrize("declare", DECLARE)
def test_one_kind_may_be_given_as_text(declare: Callable[..., Any]) -> None:
    assert declare(kinds="llm")(quiet).kinds == {"llm"}
    assert declare(kinds=["llm", "tool"])(quiet).kinds == {"llm", "tool"}
    assert declare(quiet).kinds is None


@pytest.mark.parametrize("declare", DECLARE)
def test_an_unknown_kind_is_named_with_the_choices(declare: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="kinds= names 'tol'; use some of agent, chain, tool, llm"):
        declare(kinds=["llm", "tol"])(quiet)
    with pytest.raises(ValueError, match="kinds= names 'LLM'"):
        declare(kinds="LLM")(quiet)


@pytest.mark.parametrize("declare", DECLARE)
def test_kinds_that_are_no_kinds_are_refused(declare: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="kinds=5 must be a kind or several"):
        declare(kinds=5)(quiet)
    with pytest.raises(ValueError, match=r"kinds= names \['llm'\]"):
        declare(kinds=[["llm"]])(quiet)


def test_every_kind_is_known() -> None:
    assert kinds_of(get_args(Kind)) == set(get_args(Kind))


def test_an_observer_is_named_without_the_functions_around_it() -> None:
    def hide(field: Field) -> Any:
        return field.value

    class Hiding:
        def hide(self, field: Field) -> Any:
            return field.value

        def __call__(self, field: Field) -> Any:
            return field.value

    assert spanrelay.sanitizer(hide).name == "hide"
    assert spanrelay.sanitizer(lambda field: field.value).name == "<lambda>"
    assert spanrelay.sanitizer(Hiding().hide).name == "Hiding.hide"
    assert name_of(Hiding()) == "Hiding"
