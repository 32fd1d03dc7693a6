"""Applies rules to a JSON value, and makes a new one of it.

Fails closed: what is nested too deep to be looked at, or is no JSON, never stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any, cast

from spanrelay import _json
from spanrelay._json import MAX_DEPTH, TOO_DEEP
from spanrelay.plugins.pii.pointers import Node, index_of, pointer_tree
from spanrelay.plugins.pii.rules import GONE, Rule, Step, prepare
from spanrelay.plugins.pii.spelling import may_differ, plain
from spanrelay.records import JSON

SHORTEST_OBJECT = 12
"""Characters of the shortest object with a member that its key tells: `{"pan":4111…}`, `{"ssn":…}`."""
_NO_TEXT = object()
_BLANKS = "\ufeff \t\r\n"
"""What may stand in front of JSON."""


class Redactor:
    """Rules in order: `Redactor([Rule("mask", detector="email")]).redact(value)`.

    Raises:
        ConfigurationError: something is wrong in a rule.
    """

    __slots__ = ("_passes",)

    def __init__(self, rules: Iterable[Rule]) -> None:
        prepared = [(rule.targets, prepare(rule)) for rule in rules]
        # Rules for the same places are applied together: a value is walked once for all of them.
        grouped = groupby(prepared, key=lambda pair: (pair[0], pair[1].whole))
        self._passes = [_Pass(targets, [step for _, step in pairs]) for (targets, _), pairs in grouped]

    def redact(self, value: JSON) -> JSON:
        """Return `value` redacted, None where all of it was removed; the same object where nothing changed."""
        for one in self._passes:
            value = one.run(value)
        return value


class _Pass:
    """Rules for the same places, all for whole strings or all for what is found in them."""

    __slots__ = ("_members", "_numbers", "_shortest", "_steps", "_tree", "_whole")

    def __init__(self, targets: tuple[str, ...], steps: list[Step]) -> None:
        self._tree = pointer_tree(targets) if targets else None
        self._steps = steps
        self._whole = steps[0].whole
        # A short value that its key tells may stand in JSON that is short, too.
        self._shortest = min(min(step.shortest, SHORTEST_OBJECT) if step.members else step.shortest for step in steps)
        self._members = tuple({name for step in steps for name in step.members})
        self._numbers = [step for step in steps if step.numbers]

    def run(self, value: JSON) -> JSON:
        changed = self._anywhere(value, 0) if self._tree is None else self._at(self._tree, value, 0)
        return None if changed is GONE else changed

    # --- at a target ---------------------------------------------------------------------------------------

    def _at(self, node: Node, value: JSON, depth: int) -> JSON:
        """Redact what the pointers beneath `node` lead to."""
        if node.here:
            return self._targeted(value, depth)
        if type(value) is dict:
            steps = {key: child for key in value if (child := _child(node, key)) is not None}
            return _with_members(value, {key: self._at(child, value[key], depth + 1) for key, child in steps.items()})
        if type(value) is list:
            return self._at_items(node, value, depth)
        if type(value) is str and node.children:
            inner = _parse(value, depth)
            if inner is _NO_TEXT:
                return self._targeted(value, depth) if _leads_into(node, value) else value
            return _dump(self._at(node, inner, depth + 1), inner, value)
        return value

    def _at_items(self, node: Node, items: list[JSON], depth: int) -> JSON:
        changed = list(items)
        for token, child in node.children.items():
            index = index_of(token, len(items))
            if index is not None:
                item = self._at(child, items[index], depth + 1)
                changed[index] = None if item is GONE else item
        return changed if _differ(changed, items) else items

    def _targeted(self, value: JSON, depth: int) -> JSON:
        if all(step.removes for step in self._steps):
            return GONE
        if type(value) is int or type(value) is float:
            text = str(value)  # a number that is pointed at is meant
            changed = self._text(text, depth)
            return value if changed == text else changed
        return self._anywhere(value, depth)

    # --- anywhere ------------------------------------------------------------------------------------------

    def _anywhere(self, value: JSON, depth: int) -> JSON:
        """Redact every string in `value`."""
        kind = type(value)
        if kind is str:
            return self._text(value, depth)
        if value is None or kind is bool:
            return value
        if kind is int or (kind is float and value.is_integer()):
            return self._number(value)
        if kind is float:
            return value
        if depth > MAX_DEPTH:
            return TOO_DEEP
        if kind is dict:
            return self._object(value, depth)
        if kind is list:
            return self._array(value, depth)
        return self._anywhere(_json.loads(_json.dumps(value)), depth)

    def _object(self, value: dict[str, JSON], depth: int) -> JSON:
        changed: dict[str, JSON] = {}
        differs = False
        for key, item in value.items():
            new_key = self._key(key)
            new = self._member(key, item, depth + 1) if self._members else self._anywhere(item, depth + 1)
            differs = differs or new is not item or new_key is not key
            if new is not GONE:
                changed[_unused(changed, new_key)] = new
        return changed if differs else value

    def _array(self, items: list[JSON], depth: int) -> JSON:
        changed = [self._anywhere(item, depth + 1) for item in items]
        if not _differ(changed, items):
            return items
        # The others keep their index, for rules that point at them.
        return [None if item is GONE else item for item in changed]

    def _key(self, key: Any) -> str:
        """Redact what is found in an object's key; rules for whole strings leave it."""
        text: str = key if type(key) is str else str(key)
        return text if self._whole or len(text) < self._shortest else self._apply(text)

    def _apply(self, text: str) -> str:
        spelled = plain(text)
        for step in self._steps:
            changed = step.apply(text, spelled)
            if changed is not text:
                text, spelled = changed, plain(changed)
        return text

    def _member(self, key: Any, item: JSON, depth: int) -> JSON:
        """Redact a member that may be told by its key."""
        name = _said_once(key).lower().replace("-", "").replace("_", "") if type(key) is str else ""
        if type(item) is list and name.endswith("s"):
            name = name[:-1]  # phones: […]
        if not name.endswith(self._members):
            return self._anywhere(item, depth)
        return self._told(name, item, depth)

    def _told(self, name: str, item: JSON, depth: int) -> JSON:
        """Redact a value, or the values of a list, whose key says what it is."""
        if type(item) is list:
            changed = [self._told(name, each, depth + 1) for each in item] if depth <= MAX_DEPTH else TOO_DEEP
            return item if changed is not TOO_DEEP and not _differ(cast("list[JSON]", changed), item) else changed
        if type(item) is str or type(item) is int:
            text = str(item)
            step = next((s for s in self._steps if s.members and name.endswith(s.members) and s.fits(text)), None)
            if step is not None:
                written = step.write(text)
                return item if written == text else written
        return self._anywhere(item, depth)

    def _number(self, value: float) -> JSON:
        if not self._numbers or not 10**12 <= value < 10**19:
            return value
        text = str(int(value))
        for step in self._numbers:
            text = step.apply(text, (text, None))
        return value if text == str(int(value)) else text

    def _text(self, text: str, depth: int) -> JSON:
        if len(text) < self._shortest:
            return text
        if self._whole:
            return GONE if any(step.removes for step in self._steps) else self._apply(text)
        if not self._may_change(text):
            return text
        inner = _parse(text, depth)
        if inner is not _NO_TEXT:
            return _dump(self._anywhere(inner, depth + 1), inner, text)
        return self._apply(text)

    def _may_change(self, text: str) -> bool:
        # A loop, not `any`, as in `Step.may_change`.
        for step in self._steps:
            if step.may_change(text):
                return True
        return may_differ(text) or (bool(self._members) and '":' in text)


# --- JSON in strings ---------------------------------------------------------------------------------------


def _parse(text: str, depth: int) -> JSON:
    """Return the JSON value that `text` holds, an object, an array or a string; `_NO_TEXT` where it holds none."""
    text = text.lstrip(_BLANKS)
    if text[:1] not in ("{", "[", '"'):
        return _NO_TEXT
    if depth > MAX_DEPTH:
        return TOO_DEEP
    try:
        return json.loads(text, object_pairs_hook=_keep_all)
    except RecursionError:
        return TOO_DEEP
    except ValueError:
        return _NO_TEXT


def _keep_all(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    """Return an object with all members of one that repeats names: the first may be what has to go."""
    members = dict(pairs)
    if len(members) < len(pairs):
        members = {}
        for key, item in pairs:
            members[_unused(members, key)] = item
    return members


def _dump(changed: JSON, inner: JSON, text: str) -> JSON:
    """Return `changed` as text, and `text` itself where nothing changed."""
    if changed is inner and inner is not TOO_DEEP:
        return text
    if changed is GONE:
        return GONE
    separators = (", ", ": ") if '": ' in text else (",", ":")
    return _json.clean_text(json.dumps(changed, ensure_ascii=False, separators=separators))


_REPEATED = re.compile("#[0-9]+$")


def _said_once(key: str) -> str:
    """Return the name of a member that an object may have had several times."""
    return _REPEATED.sub("", key) if "#" in key else key


def _child(node: Node, key: Any) -> Node | None:
    """Return where the pointers go on beneath a member."""
    found = node.children.get(key)
    return node.children.get(_said_once(key)) if found is None and type(key) is str else found


def _leads_into(node: Node, text: str) -> bool:
    """Whether a text that was JSON, and was cut or written on, has what pointers lead to: that cannot be left there."""
    return text.lstrip(_BLANKS)[:1] in ("{", "[") and _has(node, text)


def _has(node: Node, text: str) -> bool:
    return any(_names(text, token) and (child.here or _has(child, text)) for token, child in node.children.items())


def _names(text: str, token: str) -> bool:
    """Whether JSON has a member of that name; an index it may have without saying so."""
    return token.isdecimal() or json.dumps(token) in text or json.dumps(token, ensure_ascii=False) in text


def _unused(members: dict[str, JSON], key: str) -> str:
    """Return `key`, with a number behind it where another member has that name."""
    if key not in members:
        return key
    number = 2
    while f"{key}#{number}" in members:
        number += 1
    return f"{key}#{number}"


def _with_members(value: dict[str, JSON], changed: dict[str, JSON]) -> JSON:
    if all(item is value[key] for key, item in changed.items()):
        return value
    merged = {key: changed.get(key, item) for key, item in value.items()}
    return {key: item for key, item in merged.items() if item is not GONE}


def _differ(changed: list[JSON], items: list[JSON]) -> bool:
    return any(map(lambda new, old: new is not old, changed, items))
