"""Rules about what tools are given: which values of an argument keep a tool from being executed.

What a rule cannot judge it refuses: arguments that nobody can read, and values that cannot be compared.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from spanrelay import _json
from spanrelay.errors import ConfigurationError
from spanrelay.plugins.pii.patterns import compile_pattern
from spanrelay.plugins.pii.pointers import index_of, parse_pointer
from spanrelay.plugins.plugin import Diagnostic
from spanrelay.plugins.policy.names import normal, pattern_of, plain_text
from spanrelay.plugins.policy.settings import ORDERED, Rule


class Unjudged(Exception):
    """A value is not one that can be compared, or stands in what cannot be looked into."""


class Missing(Unjudged):
    """There is no such value."""


class ArgumentRule:
    """One rule, compiled; `number` is its place in the list, from 0."""

    def __init__(self, rule: Rule, number: int) -> None:
        self.rule = rule
        self._place = f"tools.rules[{number}]"
        self._tools = pattern_of([rule.tool])
        self._tokens = parse_pointer(rule.argument)
        pattern = None if rule.matches is None else compile_pattern(rule.matches)
        self._tests: list[tuple[str, Any, Callable[[Any, Any], bool]]] = [
            (name, wanted, _TESTS[name]) for name, wanted in rule.comparisons().items() if name != "matches"
        ]
        if pattern is not None:
            matches = _of_any(lambda value, _wanted: _matches(pattern, value))
            self._tests.append(("matches", rule.matches, matches))

    def refusal(self, request: Any, given: Any = None) -> str | None:
        """Return why a tool may not be executed with what it is given, or None.

        `given` are the application's own objects, where there are any: JSON may have no form for some.
        """
        name = plain_text(request.name)
        if name is None or not self._tools.match(normal(name)):
            return None
        told = f"tool {name!r} is refused by {self._place}"
        where = f"{self.rule.argument!r}" if self.rule.argument else "what it is given"
        if not self._tests:
            return told
        hidden = False
        try:
            hidden = _look_into(given, self._tokens)
            value = _value_at(_read(request.arguments), self._tokens)
        except Unjudged as why:
            passes = self.rule.missing == "pass" and isinstance(why, Missing) and not hidden
            return None if passes else f"{told}: it is given no {where} that could be checked"
        try:
            if not all(test(value, wanted) for _, wanted, test in self._tests):
                return None
        except Unjudged:
            return f"{told}: {where} cannot be compared"
        return f"{told}: {where} {' and '.join(f'{name} {wanted!r}' for name, wanted, _ in self._tests)}"


def refusal_by(rules: Iterable[ArgumentRule]) -> Callable[..., str | None]:
    """Return what asks each of `rules` about a tool and what it is given."""
    known = tuple(rules)

    def judge(request: Any, given: Any = None) -> str | None:
        return next((reason for rule in known if (reason := rule.refusal(request, given)) is not None), None)

    return judge


def _read(arguments: Any) -> Any:
    """Return arguments as JSON, which they may be the text of."""
    if not isinstance(arguments, str):
        return arguments
    try:
        value = _json.loads(arguments.encode())
        json.loads(arguments, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        return arguments
    return value


def _is_unread(arguments: Any) -> bool:
    """Whether arguments are JSON text that could not be read, of which nobody can say what is missing."""
    return isinstance(arguments, str) and arguments.lstrip("\ufeff \t\r\n").startswith(("{", "["))


def _without_doubles(pairs: list[tuple[str, Any]]) -> None:
    """Refuse a member that is there twice: of its values a tool may take the other one."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("it has the same key twice")


def _value_at(value: Any, tokens: tuple[str, ...]) -> Any:
    """Return the value that a pointer leads to in JSON.

    Raises:
        Missing: it is not there.
        Unjudged: a text stands on the way that may be JSON of its own.
    """
    for token in tokens:
        if _is_unread(value):
            raise Unjudged
        value = _member(value, token)
    return value


def _member(value: Any, token: str) -> Any:
    if isinstance(value, Mapping) and token in value:
        return cast("Any", value)[token]
    items = cast("list[Any]", value) if isinstance(value, (list, tuple)) else []
    index = index_of(token, len(items))
    if index is None:
        raise Missing
    return items[index]


def _look_into(given: Any, tokens: tuple[str, ...]) -> bool:
    """Return whether a pointer leads through a model, whose JSON may lack or rename what it holds.

    Raises:
        Unjudged: it leads to, or through, an object that JSON only describes, or to what a model keeps out of it.
    """
    through_model = False
    try:
        for token in tokens:
            if _is_model(given):
                given, through_model = _fields_of(given), True
            elif not isinstance(given, (Mapping, list, tuple)) and not _json.is_described(given):
                given = _json.loads(_json.dumps(given))
            given = _member(given, token)
    except Missing:
        if isinstance(given, (Mapping, list)):
            return False
    if _json.is_described(given) or _hides(given, 0):
        raise Unjudged
    return through_model


def _is_model(value: object) -> bool:
    return hasattr(type(value), "model_fields") and hasattr(type(value), "model_dump")


def _fields_of(model: Any) -> dict[str, Any]:
    """Return what a model of pydantic's holds, by the names of its fields and by those that its JSON has for them."""
    held = dict(model)
    fields = type(model).model_fields
    named = ((other, name) for name, each in fields.items() for other in (each.alias, each.serialization_alias))
    return {**held, **{other: held[name] for other, name in named if other is not None and name in held}}


def _hides(value: Any, depth: int) -> bool:
    """Whether a model in `value` keeps something of what it holds out of its JSON: a secret, or a field left out."""
    if value is None or isinstance(value, (str, int, float)) or depth > _json.MAX_DEPTH:
        return False
    if hasattr(type(value), "get_secret_value"):
        return True
    if _is_model(value):
        left_out = any(each.exclude for each in type(value).model_fields.values())
        return left_out or any(_hides(each, depth + 1) for _, each in value)
    if isinstance(value, Mapping):
        value = cast("Mapping[str, Any]", value).values()
    elif not isinstance(value, (list, tuple, set, frozenset)):
        return False
    return any(_hides(each, depth + 1) for each in cast("Iterable[Any]", value))


def _equals(value: Any, wanted: Any) -> bool:
    if isinstance(value, (list, tuple)) and isinstance(wanted, list):
        return len(value) == len(wanted) and _are_equal(zip(value, wanted, strict=True))
    if isinstance(value, Mapping) and isinstance(wanted, Mapping):
        return value.keys() == wanted.keys() and _are_equal((value[name], wanted[name]) for name in wanted)
    # Python takes true for 1.
    if isinstance(value, bool) == isinstance(wanted, bool) and value == wanted:
        return True
    if _sort(value) != _sort(wanted) and not _readings(value).isdisjoint(_readings(wanted)):
        raise Unjudged
    return False


def _are_equal(pairs: Iterable[tuple[Any, Any]]) -> bool:
    doubtful = False
    for value, wanted in pairs:
        try:
            if not _equals(value, wanted):
                return False
        except Unjudged:
            doubtful = True
    if doubtful:
        raise Unjudged
    return True


def _is_among(value: Any, wanted: Any) -> bool:
    return _is_any(_equals, ((value, each) for each in wanted))


def _is_any(test: Callable[[Any, Any], bool], pairs: Iterable[tuple[Any, Any]]) -> bool:
    doubtful = False
    for value, wanted in pairs:
        try:
            if test(value, wanted):
                return True
        except Unjudged:
            doubtful = True
    if doubtful:
        raise Unjudged
    return False


def _of_any(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Return a test that a list passes where the whole of it does, or anything in it."""
    return lambda value, wanted: _is_any(test, ((each, wanted) for each in (value, *_elements(value))))


def _elements(value: Any) -> Iterator[Any]:
    for each in cast("list[Any]", value) if isinstance(value, (list, tuple)) else ():
        yield each
        yield from _elements(each)


def _sort(value: Any) -> type:
    return float if _is_number(value) else type(value)


def _readings(value: Any) -> set[float]:
    """Return the numbers that a tool may take `value` for where it wants another type; true is 1.

    What validates arguments turns "5" into 5 and "yes" into true before the tool sees them.
    """
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in _WORDS:
            return {_WORDS[word]}
    try:
        return {float(value)}
    except (TypeError, ValueError, OverflowError):
        return set()


_WORDS = {
    "true": 1.0,
    "yes": 1.0,
    "y": 1.0,
    "t": 1.0,
    "on": 1.0,
    "false": 0.0,
    "no": 0.0,
    "n": 0.0,
    "f": 0.0,
    "off": 0.0,
}


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(value: Any, wanted: Any) -> bool:
        texts = isinstance(value, str) and isinstance(wanted, str)
        if not texts and not (_is_number(value) and _is_number(wanted)):
            raise Unjudged
        return compare(value, wanted)

    return test


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _matches(pattern: Any, value: Any) -> bool:
    return pattern.search(value if isinstance(value, str) else _json.dumps_text(value)) is not None


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": _of_any(_equals),
    "ne": lambda value, wanted: not _equals(value, wanted),
    "in": _of_any(_is_among),
    "lt": _ordered(operator.lt),
    "le": _ordered(operator.le),
    "gt": _ordered(operator.gt),
    "ge": _ordered(operator.ge),
}


def doubts_about_rules(rules: list[Rule]) -> list[Diagnostic]:
    """Find rules whose pointers or patterns are none, or that compare with what has no order."""
    found: list[Diagnostic] = []
    for number, rule in enumerate(rules):
        key = f"tools.rules[{number}]"
        found += _error(f"{key}.argument", lambda rule=rule: parse_pointer(rule.argument))
        if rule.matches is not None:
            found += _error(f"{key}.matches", lambda source=rule.matches: compile_pattern(source))
        if rule.argument and not rule.comparisons():
            remedy = "write one of eq, ne, lt, le, gt, ge, in and matches, or remove argument"
            found.append(Diagnostic("names an argument but does not compare it with anything", remedy, key))
        for name, wanted in rule.comparisons().items():
            if wanted == [] and name == "in":
                found.append(Diagnostic("is empty, so nothing is in it", "write values", f"{key}.in"))
            if not _is_json(wanted):
                remedy = "write a string, a number, true or false, or a list or table of these"
                found.append(Diagnostic("is a value that no JSON argument can have", remedy, f"{key}.{name}"))
        for name in ORDERED:
            wanted = getattr(rule, name)
            if wanted is not None and not isinstance(wanted, str) and not _is_number(wanted):
                found.append(Diagnostic("cannot be ordered", "write a number or a string", f"{key}.{name}"))
    return found


def _is_json(value: Any) -> bool:
    """Whether JSON has a form for `value`, as it has not for TOML's dates and for what is no number."""
    if isinstance(value, Mapping):
        return all(map(_is_json, cast("Mapping[str, Any]", value).values()))
    if isinstance(value, list):
        return all(map(_is_json, cast("list[Any]", value)))
    return isinstance(value, (str, bool)) or (_is_number(value) and math.isfinite(value))


def _error(key: str, make: Callable[[], Any]) -> list[Diagnostic]:
    try:
        make()
    except ConfigurationError as error:
        return [Diagnostic(f"cannot be used: {error}", "", key)]
    return []
