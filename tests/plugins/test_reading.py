"""A table becomes a dataclass, or everything that is wrong with it is told at once, and no value with it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from spanrelay.plugins import Secret
from spanrelay.plugins.reading import FromEnvironment, read_model


@dataclass
class Place:
    host: str
    port: int = 80


@dataclass
class Model:
    text: str = ""
    number: int = 0
    share: float = 0.0
    switch: bool = False
    names: list[str] = field(default_factory=list)
    pair: tuple[int, ...] = ()
    rates: dict[str, float] = field(default_factory=dict)
    mode: Literal["hash", "mask", 3] = "mask"
    place: Place | None = None
    either: int | str = 0
    key: Secret | None = None
    anything: Any = None


GOOD: list[tuple[str, Any, Any]] = [
    ("text", "a", "a"),
    ("number", 3, 3),
    ("share", 1, 1.0),
    ("share", 0.5, 0.5),
    ("switch", True, True),
    ("names", ["a", "b"], ["a", "b"]),
    ("pair", [1, 2], (1, 2)),
    ("rates", {"a": 1}, {"a": 1.0}),
    ("mode", "hash", "hash"),
    ("mode", 3, 3),
    ("place", {"host": "h"}, Place("h", 80)),
    ("either", "a", "a"),
    ("either", 1, 1),
    ("key", "hunter2", Secret("hunter2")),
    ("anything", [{"a": 1}], [{"a": 1}]),
    ("number", FromEnvironment("7"), 7),
    ("switch", FromEnvironment("True"), True),
    ("key", FromEnvironment("hunter2"), Secret("hunter2")),
    ("mode", FromEnvironment("hash"), "hash"),
]

BAD: list[tuple[str, Any, str]] = [
    ("text", 1, "text: is a whole number; write text"),
    ("number", True, "number: is true or false; write a whole number"),
    ("number", "7", "number: is text; write a whole number"),
    ("number", 7.0, "number: is a number; write a whole number"),
    ("share", "much", "share: is text; write a number"),
    ("switch", 1, "switch: is a whole number; write true or false"),
    ("names", "a", "names: is text; write a list of text"),
    ("names", ["a", 1], "names[1]: is a whole number; write text"),
    ("pair", [1, "a"], "pair[1]: is text; write a whole number"),
    ("rates", {"a b": "x"}, 'rates."a b": is text; write a number'),
    ("rates", 1, "rates: is a whole number; write a table"),
    ("mode", "hide", "mode: is not one of the choices; write 'hash', 'mask' or 3"),
    ("mode", True, "mode: is not one of the choices; write 'hash', 'mask' or 3"),
    ("place", 3, "place: is a whole number; write a table"),
    ("place", {"host": "h", "port": "x"}, "place.port: is text; write a whole number"),
    ("place", {}, "place.host: is missing; write text"),
    ("either", [], "either: is a list; write a whole number or text"),
    ("zzz", 1, "zzz: is not known; remove it; expected one of"),
    ("numbr", 1, "numbr: is not known; did you mean 'number'?"),
    ("number", FromEnvironment("many"), "number: is not a whole number after its ${…} was replaced; set the variable"),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_a_value_that_fits_is_taken(name: str, value: Any, expected: Any) -> None:
    made, found = read_model(Model, {name: value})
    assert found == []
    assert made is not None
    assert getattr(made, name) == expected
    assert type(getattr(made, name)) is type(expected)


@pytest.mark.parametrize(("name", "value", "said"), BAD)
def test_a_value_that_does_not_fit_is_told_with_key_and_remedy(name: str, value: Any, said: str) -> None:
    made, found = read_model(Model, {name: value})
    assert made is None
    assert [str(diagnostic)[: len(said)] for diagnostic in found] == [said]


def test_everything_wrong_is_told_at_once() -> None:
    made, found = read_model(Model, {"number": "x", "names": [1, 2], "extra": 1, "place": {"prt": 1}}, "plugins.p")
    assert made is None
    assert sorted(diagnostic.key for diagnostic in found) == [
        "plugins.p.extra",
        "plugins.p.names[0]",
        "plugins.p.names[1]",
        "plugins.p.number",
        "plugins.p.place.host",
        "plugins.p.place.prt",
    ]


def test_no_value_is_ever_told() -> None:
    _, found = read_model(Model, {"number": "hunter2", "mode": "hunter2", "rates": "hunter2", "names": "hunter2"})
    assert len(found) == 4
    assert "hunter2" not in "".join(map(str, found))


def test_a_secret_shows_nothing_of_itself() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "hunter2"
    assert {secret} == {Secret("hunter2")}
    with pytest.raises(TypeError, match=r"reveal\(\)"):
        pickle.dumps(secret)
