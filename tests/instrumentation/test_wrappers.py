"""What is wrapped can be copied, pickled and held weakly as what it wraps, and goes on being wrapped."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import sys
import typing
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from spanrelay.instrumentation.patching import Patch, Patches

NAME = "wrapped_by_a_test"
SOURCE = """
class Client:
    number = 1
    def ask(self, more=0): return self.number + more
    async def ask_later(self, more=0): return self.number + more
    @classmethod
    def make(cls): return cls.number
    @staticmethod
    def check(number): return number
def answer(number: int) -> int: return number
"""


def negative(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return -wrapped(*args, **kwargs)


async def negative_later(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return -await wrapped(*args, **kwargs)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made = ModuleType(NAME)
    exec(SOURCE, made.__dict__)
    monkeypatch.setitem(sys.modules, NAME, made)
    whole = ("Client.ask", "Client.make", "Client.check", "answer")
    table = (*(Patch(NAME, each, negative) for each in whole), Patch(NAME, "Client.ask_later", negative_later))
    patches = Patches("a package", (NAME,), lambda: table)
    patches.apply()
    yield made
    patches.undo()


def again(function: Any) -> Any:
    return pickle.loads(pickle.dumps(function))


WAYS: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, again]


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_works_as_what_was_copied(module: Any, way: Callable[[Any], Any]) -> None:
    client = module.Client()
    client.number = 4
    assert way(client.ask)(more=1) == -5
    assert asyncio.run(way(client.ask_later)(1)) == -5
    assert way(module.Client.ask)(client) == -4
    assert way(module.Client.make)() == way(client.make)() == -1
    assert way(module.Client.check)(3) == way(module.answer)(3) == -3


def test_a_deep_copy_of_a_method_has_a_copy_of_its_instance(module: Any) -> None:
    held = {"client": module.Client()}
    held["ask"] = held["client"].ask
    copied = copy.deepcopy(held)
    assert copied["ask"].__self__ is copied["client"] is not held["client"]
    assert copy.copy(held["ask"]).__self__ is held["client"]


def test_a_pickle_can_be_read_where_nothing_is_wrapped(module: Any) -> None:
    client = module.Client()
    pickles = [pickle.dumps(each) for each in (client.ask, module.Client.check, module.answer)]
    assert all(b"spanrelay" not in each for each in pickles)


def test_a_method_is_held_weakly_and_stays_wrapped(module: Any) -> None:
    client = module.Client()
    held = weakref.WeakMethod(client.ask)
    gc.collect()
    method = held()
    assert method is not None
    assert (method(more=2), method == client.ask, held == weakref.WeakMethod(client.ask)) == (-3, True, True)
    del client, method
    gc.collect()
    assert held() is None


def test_the_function_of_a_method_is_wrapped_too(module: Any) -> None:
    client = module.Client()
    assert client.ask.__func__(client, 1) == -2
    assert client.ask.__func__ == module.Client.ask


def test_what_asks_for_signatures_is_told_those_of_what_is_wrapped(module: Any) -> None:
    client = module.Client()
    assert str(inspect.signature(client.ask)) == "(more=0)"
    assert str(inspect.signature(module.Client.ask)) == "(self, more=0)"
    assert str(inspect.signature(module.Client.make)) == "()"
    assert str(inspect.signature(module.answer)) == "(number: 'int') -> 'int'"
    assert inspect.iscoroutinefunction(client.ask_later)
    assert not inspect.iscoroutinefunction(client.ask)


def test_what_asks_for_types_is_told_those_of_what_is_wrapped(module: Any) -> None:
    wrapped = [module.answer, vars(module.Client)["ask"]]
    assert [typing.get_type_hints(each) for each in wrapped] == [{"number": int, "return": int}, {}]
