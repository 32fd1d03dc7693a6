"""Messages are in plain English: what a reader of another trade would stumble over is not said."""

import ast
import io
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from spanrelay._voice import say

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT / "src", *sorted((ROOT / "instrumentors").glob("*/src")), ROOT / "testkit" / "src"]

STILTED = {
    r"(?<!there )\bis no (?!longer|more)": "is not a",
    r"\bare none\b|\bis none\b": "is not a valid",
    r"\bmend\b": "fix",
    r"\bjudg": "check",
    r"\bno text but\b": "not text",
    r"\ba text\b(?! part)": "a string",
    r"\bnought\b|\banew\b|\bperuse\b|\bupon\b|\bhereby\b": "plain words",
    r"\bstands? (?:beside|without|in)\b": "is set together with, or is in",
    r"\bwhat is of type\b": "a",
    r"\bcolour": "color",
    r"\bby opentelemetry-instrument\b": "with opentelemetry-instrument",
}
"""What is not written in a message, and what is instead."""


@cache
def messages() -> list[tuple[str, str]]:
    """Every text of several words in our sources that is not a docstring, with its place."""
    return list(_read())


def _read() -> Iterator[tuple[str, str]]:
    for file in (file for source in SOURCES for file in source.rglob("*.py")):
        tree = ast.parse(file.read_text())
        silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                silent |= {id(part) for part in node.values}
                text = "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
                text = node.value
            else:
                continue
            if text.count(" ") >= 2:
                yield f"{file.relative_to(ROOT)}:{node.lineno}", text


@pytest.mark.parametrize("pattern", STILTED)
def test_messages_are_in_plain_english(pattern: str) -> None:
    found = [f"{place}: {text!r}" for place, text in messages() if re.search(pattern, text)]
    assert found == [], f"write {STILTED[pattern]!r} instead"


def test_the_messages_are_found() -> None:
    assert len(messages()) > 500


def test_a_message_is_written_in_one_piece_with_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    pieces: list[str] = []
    monkeypatch.setattr(stderr, "write", pieces.append)
    monkeypatch.setattr(sys, "stderr", stderr)
    say("one\ntwo")
    assert pieces == ["spanrelay: one\nspanrelay: two\n"]
