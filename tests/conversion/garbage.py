"""What a source left with other things in some of its attributes than anybody expects there."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.conversion.leavings import Left, items

_GARBAGE: list[Any] = [
    {"stringValue": "{"},
    {"stringValue": "[1]"},
    {"stringValue": '[{"role":1,"parts":{}}]'},
    {"stringValue": '{"response":[],"request":3}'},
    {"intValue": 7},
    {"boolValue": True},
    {"arrayValue": {"values": []}},
    None,
]
_KEPT = ("service.name", "gen_ai.operation.name", "ai.operationId", "session.id", "gen_ai.conversation.id")
"""Without these nobody would know what the rest is."""

_LINES: list[Any] = [None, 1, "x", [], [1], {}, {"parts": 1}, {"text": 2}, True]


def garbled(of: Left, seed: int, folder: Path) -> list[Path]:
    """Write the files of a source with some values of attributes, or of what lines of transcripts say, replaced."""
    chance = random.Random(seed)
    found: list[Path] = []
    for path in of.files:
        values = [json.loads(line) for line in items(path)]
        change = _changed if any("resource" in str(next(iter(value), "")) for value in values) else _changed_line
        found.append(folder / path.name)
        found[-1].write_text("\n".join(json.dumps(change(value, chance)) for value in values))
    return found


def _changed(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list):
        return [_changed(item, chance) for item in value]
    if not isinstance(value, dict):
        return value
    if "key" in value and "value" in value and value["key"] not in _KEPT and chance.random() < 0.25:
        return {**value, "value": chance.choice(_GARBAGE)}
    return {key: _changed(item, chance) for key, item in value.items()}


def _changed_line(value: dict[str, Any], chance: random.Random) -> Any:
    return {
        key: chance.choice(_LINES) if chance.random() < 0.05 else _changed_inner(item, chance)
        for key, item in value.items()
    }


def _changed_inner(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list):
        return [_changed_inner(item, chance) for item in value]
    return _changed_line(value, chance) if isinstance(value, dict) else value
