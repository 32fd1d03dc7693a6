"""What is wrong with a declared observer is said where it is declared, and not by what is missing later."""

from collections.abc import Callable
from typing import Any, get_args

import pytest

import spanrelay
from spanrelay.observation.observers import Field
from spanrelay.records import Kind
from spanrelay.registry import kinds_of, name_of

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


@pytest.mark.parametrize("declare", DECLARE)
def test_what_is_no_function_is_refused(declare: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=rf"{declare.__name__}\('x'\) must be given a function; options go by name"):
        declare("x")


@pytest.mark.parametrize("declare", DECLARE)
def test_options_are_checked_where_they_are_given(declare: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=rf"{declare.__name__}\(priority='high'\): priority must be an integer"):
        declare(priority="high")
    with pytest.raises(TypeError, match=rf"{declare.__name__}\(name=5\): name must be a string"):
        declare(name=5)
    with pytest.raises(TypeError, match=rf"{declare.__name__}\(\) has no option 'kind'; did you mean 'kinds'\?"):
        declare(kind="llm")
    with pytest.raises(TypeError, match=rf"{declare.__name__}\(\) has no option 'xyz'; it takes name, kinds, priority"):
        declare(xyz=1)


def test_options_of_one_family_are_checked_too() -> None:
    with pytest.raises(ValueError, match="fields= names 'requests'; use some of request, response"):
        spanrelay.sanitizer(fields=["requests"])  # pyright: ignore[reportArgumentType] - as users do
    with pytest.raises(TypeError, match="fields=5 must be a field's name or several"):
        spanrelay.sanitizer(fields=5)  # pyright: ignore[reportArgumentType] - as users do
    with pytest.raises(TypeError, match=r"subscriber\(settle=1\): settle must be a function without arguments"):
        spanrelay.subscriber(settle=1)  # pyright: ignore[reportArgumentType] - as users do


def test_a_function_that_would_not_run_is_refused() -> None:
    def generator(event: Any) -> Any:
        yield event

    async def agenerator(event: Any) -> Any:
        yield event

    class Generator:
        def __call__(self, event: Any) -> Any:
            yield event

    for step in (generator, agenerator, Generator()):
        for declare in (*DECLARE, spanrelay.subscribe):
            with pytest.raises(TypeError, match=r"'\w*enerator' is a generator function, and nothing in it would run"):
                declare(step)


def test_a_coroutine_function_is_refused_but_for_subscribers() -> None:
    class Later:
        async def __call__(self, argument: Any) -> None: ...

    for declare in (spanrelay.sanitizer, spanrelay.metadata_injector):
        with pytest.raises(TypeError, match="'Later' must be a plain function"):
            declare(Later())
    assert spanrelay.subscriber(Later()).name == "Later"


def test_a_function_of_other_arguments_is_refused() -> None:
    def none() -> None: ...

    def two(field: Any, kind: Any) -> None: ...

    def one_and_more(field: Any, *rest: Any, kind: Any = None, **others: Any) -> None: ...

    with pytest.raises(
        TypeError, match=r"sanitizer 'none' must take one argument, the field; it is declared as none\(\)"
    ):
        spanrelay.sanitizer(none)  # pyright: ignore[reportArgumentType] - as users do
    for declare in DECLARE:
        with pytest.raises(TypeError, match=r"'two' must take one argument, the \w+; it is declared as two\(field"):
            declare(two)
        declare(one_and_more)
        declare(dict)


def test_subscribing_says_what_it_was_given() -> None:
    with pytest.raises(TypeError, match=r"subscriber\(5\) must be given a function"):
        spanrelay.subscribe(5)  # pyright: ignore[reportArgumentType] - as users do
    with pytest.raises(TypeError, match=r"scope='name' must be what `with spanrelay.scope\(...\) as entered:` gives"):
        spanrelay.subscribe(quiet, scope="name")  # pyright: ignore[reportArgumentType] - as users do
    with pytest.raises(TypeError, match="scope='name' must be"):
        spanrelay.sanitizer(quiet).register("name")  # pyright: ignore[reportArgumentType] - as users do
