"""Reads a table of a configuration file into a dataclass: every field checked, everything wrong told at once.

Values are never part of a diagnostic, since any of them may be a secret; keys and types are.
"""

from __future__ import annotations

import json
import os
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from spanrelay.errors import ConfigurationError
from spanrelay.plugins.plugin import Diagnostic, Secret

T = TypeVar("T")


class FromEnvironment(str):
    """Text that a `${NAME}` was replaced in; where a number or a boolean is expected it is read as one."""

    __slots__ = ()


def read_model(
    model: type[T], table: Mapping[str, Any], key: str = "", folder: str = ""
) -> tuple[T | None, list[Diagnostic]]:
    """Return an instance of the dataclass `model` made from `table`, or None and all that is wrong with it.

    Fields may be str, int, float, bool, `Secret`, `Path`, Any, `Literal`, another dataclass, `list`, `tuple[X, ...]`,
    `dict` with text keys, and unions of these with None. `key` is the path of the table; a `Path` that is relative
    begins in `folder`.
    """
    made, found = read_partly(model, table, key, folder)
    return (None if found else made), found


def read_partly(
    model: type[T], table: Mapping[str, Any], key: str = "", folder: str = ""
) -> tuple[T | None, list[Diagnostic]]:
    """Do what `read_model` does, but return an instance also where some keys are misread: they have their defaults.

    It is for looking only, so that what else is wrong is told at once; None where a misread key has no default.
    """
    reader = _Reader(folder)
    made = reader.model(model, table, key)
    return (None if made is _MISREAD else made), reader.found


_MISREAD: Any = object()
"""What stands for a value that does not fit; what is wrong with it has been told."""


_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    tuple: "a list",
    dict: "a table",
    Secret: "text",
    Path: "text",
}


class _Reader:
    def __init__(self, folder: str) -> None:
        self.found: list[Diagnostic] = []
        self._folder = folder

    def model(self, model: type[T], table: Mapping[str, Any], key: str) -> T:
        # A key that is a word of Python's is a field with `_` at its end.
        known = {field.name.removesuffix("_"): field for field in fields(cast("Any", model)) if field.init}
        for name in table:
            if name not in known:
                self._say(joined(key, name), "is not known", advice(name, known))
        kinds = get_type_hints(model)
        missing = [name for name, field in known.items() if name not in table and _is_required(field)]
        for name in missing:
            self._say(joined(key, name), "is missing", f"write {_described(kinds[known[name].name])}")
        read = {
            name: self.value(kinds[field.name], table[name], joined(key, name))
            for name, field in known.items()
            if name in table
        }
        lacking = missing or [name for name, value in read.items() if value is _MISREAD and _is_required(known[name])]
        values = {known[name].name: value for name, value in read.items() if value is not _MISREAD}
        return _MISREAD if lacking else self._made(model, values, key)

    def _made(self, model: type[T], values: dict[str, Any], key: str) -> T:
        """Make the instance; a model may check itself as it is made."""
        known = bool(self.found)
        try:
            return model(**values)
        except Exception as error:
            if not known:  # else the values that are lacking may be why
                told = str(error) if isinstance(error, ConfigurationError) else type(error).__name__
                self._say(key, f"is rejected by {model.__qualname__}: {told}", "see the plugin's documentation")
            return _MISREAD

    def value(self, kind: Any, value: Any, key: str) -> Any:
        """Return `value` as `kind` wants it; `_MISREAD` where it does not fit, which is then told."""
        if kind is Any or kind is object:
            return _plain(value)
        origin = get_origin(kind)
        if origin is Union or origin is types.UnionType:
            return self._union(kind, value, key)
        if origin is Literal:
            return self._choice(kind, value, key)
        if is_dataclass(kind):
            return (
                self.model(cast("type[Any]", kind), value, key)
                if isinstance(value, dict)
                else self._misfit(kind, value, key)
            )
        if (origin or kind) in (list, tuple, dict):
            return self._collection(origin or kind, kind, value, key)
        return self._scalar(kind, value, key)

    def _union(self, kind: Any, value: Any, key: str) -> Any:
        """Try every member; what is told is about the only one, or about all of them."""
        members = [member for member in get_args(kind) if member is not type(None)]
        if len(members) == 1:
            return self.value(members[0], value, key)
        for member in members:
            trial = _Reader(self._folder)
            made = trial.value(member, value, key)
            if not trial.found:
                return made
        return self._misfit(kind, value, key)

    def _choice(self, kind: Any, value: Any, key: str) -> Any:
        for choice in get_args(kind):
            if choice == value and type(choice) is type(_plain(value)):
                return choice
        texts = [choice for choice in get_args(kind) if isinstance(choice, str)]
        meant = meaning(value, texts) if isinstance(value, str) else None
        self._say(key, "is not one of the choices", meant or f"write {_described(kind)}")
        return _MISREAD

    def _collection(self, container: Any, kind: Any, value: Any, key: str) -> Any:
        arguments = get_args(kind)
        if container is dict:
            if not isinstance(value, dict):
                return self._misfit(kind, value, key)
            inner = arguments[1] if arguments else Any
            made = {name: self.value(inner, item, joined(key, name)) for name, item in value.items()}
            return {name: item for name, item in made.items() if item is not _MISREAD}
        if not isinstance(value, list):
            return self._misfit(kind, value, key)
        inner = arguments[0] if arguments else Any
        items = [self.value(inner, item, f"{key}[{at}]") for at, item in enumerate(cast("list[Any]", value))]
        return _MISREAD if any(item is _MISREAD for item in items) else container(items)

    def _scalar(self, kind: Any, value: Any, key: str) -> Any:
        if kind is Path and isinstance(value, str):
            return Path(self._folder, os.path.expanduser(value)) if value else self._misfit(kind, None, key)
        if isinstance(value, FromEnvironment):
            return self._from_environment(kind, value, key)
        if kind is float and type(value) is int:
            return float(value)
        if kind is Secret and isinstance(value, str):
            return Secret(value)
        return value if type(value) is kind else self._misfit(kind, value, key)

    def _from_environment(self, kind: Any, value: FromEnvironment, key: str) -> Any:
        try:
            return _CONVERSIONS[kind](value)
        except (KeyError, ValueError):
            self._say(key, f"is not {_described(kind)} after its ${{…}} was replaced", "set the variable to one")
            return _MISREAD

    def _misfit(self, kind: Any, value: Any, key: str) -> Any:
        word = (
            "empty"
            if value is None
            else "text"
            if isinstance(value, str)
            else _WORDS.get(type(value), "a date or time")
        )
        self._say(key, f"is {word}", f"write {_wanted(kind, value, key)}")
        return _MISREAD

    def _say(self, key: str, message: str, remedy: str) -> None:
        self.found.append(Diagnostic(message, remedy, key))


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.strip().lower()]


def _secret(text: str) -> Secret:
    return Secret(str(text))


_CONVERSIONS: dict[Any, Callable[[str], Any]] = {str: str, int: int, float: float, bool: _boolean, Secret: _secret}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, FromEnvironment) else value


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def joined(key: str, name: str) -> str:
    """Return the path of `name` in the table at `key`, as TOML writes it."""
    bare = name.replace("-", "").replace("_", "").isalnum()
    name = name if bare else json.dumps(name, ensure_ascii=False)  # a key may hold what moves a terminal's cursor
    return f"{key}.{name}" if key else name


def _wanted(kind: Any, value: Any, key: str) -> str:
    """What to write for `kind` in place of `value`, and how TOML writes it where that is what was mistaken."""
    words = _described(kind)
    container, inner = get_origin(kind), next(iter(get_args(kind)), None)
    if is_dataclass(kind) and "[" not in key:
        return f"{words}: [{key}]"
    if container in (list, tuple) and is_dataclass(inner) and "[" not in key:
        return f"{words}: [[{key}]]"
    if kind in (bool, int, float) and isinstance(value, str):
        return f"{words} without quotes"
    if kind in (str, Secret, Path) and value is not None:
        return f"{words} in quotes"
    return words


def _described(kind: Any) -> str:
    """What `kind` takes, in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _either([repr(choice) if isinstance(choice, str) else str(choice).lower() for choice in arguments])
    if origin is Union or origin is types.UnionType:
        return _either([_described(member) for member in arguments if member is not type(None)])
    if origin in (list, tuple) and arguments and arguments[0] in _WORDS:
        example = ', as in ["…"]' if arguments[0] is str else ""
        return f"a list of {_described(arguments[0]).removeprefix('a ')}{example}"
    if is_dataclass(kind):
        return "a table"
    return _WORDS.get(origin or kind, str(kind))


def _either(choices: list[str]) -> str:
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)


def meaning(name: str, known: Iterable[str]) -> str | None:
    """Ask whether the name most like an unknown one was meant; None where none is like it."""
    from difflib import get_close_matches  # only where something is wrong

    near = get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]!r}?" if near else None


def choose(name: str, known: Iterable[str]) -> str:
    """What to write in place of an unknown value."""
    known = list(known)
    meant = meaning(name, known)
    return (f"{meant} " if meant else "") + f"expected one of {', '.join(known)}"


def advice(name: str, known: Mapping[str, Any]) -> str:
    """What may have been meant by an unknown key."""
    meant = meaning(name, known)
    if meant is not None:
        return meant
    return f"remove it; expected one of {', '.join(sorted(known))}" if known else "remove it; this table takes no keys"
