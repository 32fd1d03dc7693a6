"""Frameworks that have names of their own for what a convention has one for: put under the convention's, read only.

What the convention's attribute says stays. `vocabularies` has the names; none is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spanrelay.records import JSON, Kind
from spanrelay.semconv import names
from spanrelay.semconv.values import as_object, at, count, decode, decode_loosely, structure
from spanrelay.semconv.vocabularies import VOCABULARIES, Vocabulary
from spanrelay.semconv.wrappings import answer_in, request_in, tools_in

_MARKS = frozenset(each.mark for each in VOCABULARIES)


def kind_of(attributes: Mapping[str, Any]) -> Kind | None:
    """Return what a span does, where a framework has a word of its own for that."""
    vocabulary = vocabulary_of(attributes)
    return vocabulary.kinds.get(attributes[vocabulary.mark]) if vocabulary is not None else None


def translated(attributes: dict[str, Any], kind: Kind | None) -> dict[str, Any]:
    """Return `attributes` with what a framework says under the convention's names too, or themselves if none is known.

    What a span was given and gave has one name for spans of every kind, so `kind` says what that is.
    """
    vocabulary = vocabulary_of(attributes)
    if vocabulary is None:
        return attributes
    operation = names.OPERATION_OF_KIND.get(kind)
    said = {names.OPERATION: operation} if vocabulary.kinds and operation is not None else {}
    return {**_said(vocabulary, attributes, kind), **attributes, **said}


def vocabulary_of(attributes: Mapping[str, Any]) -> Vocabulary | None:
    """Return the names of the framework that a span is of, if of any."""
    if attributes.keys().isdisjoint(_MARKS):
        return None
    for vocabulary in VOCABULARIES:
        word = attributes.get(vocabulary.mark)
        if isinstance(word, str) and (not vocabulary.kinds or word in vocabulary.kinds):
            return vocabulary
    return None


def _said(vocabulary: Vocabulary, attributes: dict[str, Any], kind: Kind | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    of_kind = vocabulary.of_kind.get(kind, {}) if kind is not None else {}
    for key, name in (*vocabulary.names.items(), *of_kind.items()):
        if key in attributes and not _is_hidden(attributes[key]):
            found.setdefault(name, attributes[key])
    for key, places in vocabulary.details.items() if kind in _MODELS else ():
        details = as_object(decode_loosely(attributes.get(key)))
        found.update(_details(details, places))
        found.update(_sums(details, vocabulary.apart.get(key, {})))
    for keys, targets in ((vocabulary.given, _GIVEN), (vocabulary.gave, _GAVE)):
        name, unwrap = targets.get(kind, targets[None])
        value = next((attributes[key] for key in keys if attributes.get(key) is not None), None)
        if value is not None:
            found.setdefault(name, unwrap(value))
            if name == names.INPUT_MESSAGES and (tools := tools_in(value)):
                found.setdefault(names.TOOL_DEFINITIONS, tools)
    return found


_MODELS = ("llm", "embedder")


def _is_hidden(value: object) -> bool:
    """Whether Logfire put its mark in a value's place, as it does with an id that has the word "session" in it."""
    return isinstance(value, str) and value.startswith("[Scrubbed due to ")


def _details(details: dict[str, JSON], places: Mapping[str, str]) -> dict[str, JSON]:
    """Return what is at places of an object, by the convention's names; `Infinity` says that there is no limit."""
    found: dict[str, JSON] = {}
    for place, name in places.items():
        value = at(details, place)
        if value is not None and value != "Infinity" and value != []:
            found[name] = value
    return found


def _sums(details: dict[str, JSON], totals: Mapping[str, str]) -> dict[str, JSON]:
    """Return counts together with the parts that were taken off them; those of a tier are no parts."""
    found: dict[str, JSON] = {}
    for word, name in totals.items():
        own = count(details.get(word))
        parts = [count(value) or 0 for key, value in details.items() if key.startswith(f"{word}_") and _is_part(key)]
        if own is not None:
            found[name] = own + sum(parts)
    return found


def _is_part(key: str) -> bool:
    return "_priority" not in key and not key.endswith("_details")


def _sole(value: object, key: str) -> JSON:
    """Return what is in an object around a tool's input or output as a whole, as LangChain has it."""
    given = decode(value)
    return given[key] if isinstance(given, dict) and given.keys() == {key} else given


def _arguments(value: object) -> JSON:
    """Return a tool's arguments, also out of a Python call's, where all of them were given by name."""
    inner = _sole(value, "input")
    if isinstance(inner, dict) and inner.keys() == {"args", "kwargs"} and not inner["args"]:
        return inner["kwargs"]
    return inner if not isinstance(inner, str) or inner[:1] in "{[" else structure(value)


def _result(value: object) -> JSON:
    return _sole(value, "output")


_Targets = Mapping[Kind | None, tuple[str, Callable[[object], JSON]]]
_GIVEN: _Targets = {
    "llm": (names.INPUT_MESSAGES, request_in),
    "tool": (names.TOOL_ARGUMENTS, _arguments),
    None: (names.OI_INPUT, structure),
}
_GAVE: _Targets = {
    "llm": (names.OUTPUT_MESSAGES, answer_in),
    "tool": (names.TOOL_RESULT, _result),
    None: (names.OI_OUTPUT, structure),
}
