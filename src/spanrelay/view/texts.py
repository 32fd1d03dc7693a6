"""Texts as a page shows them: harmless, and folded behind their beginning where they are long."""

from __future__ import annotations

from dataclasses import dataclass

from spanrelay import _json
from spanrelay.records import JSON
from spanrelay.view.facts import visible

LONGEST = 1_000_000
"""Characters of one text that a page holds: a browser that shows more of one is no longer of use."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text, whole where it is short; else its beginning, with `more` saying how much there is, and the whole."""

    head: str
    more: str = ""
    whole: str = ""


@dataclass(frozen=True, slots=True)
class Fold:
    """How much of a text stands open."""

    lines: int
    characters: int

    def text(self, content: str) -> Text:
        """Return a text as it is shown; nothing in it can move, hide or turn what stands around it."""
        content = content.replace("\r\n", "\n").strip("\n")
        size = len(content)
        if size > LONGEST:
            content = f"{content[:LONGEST]}\n… (+{size - LONGEST:,} characters, which are in the document)"
        shown = visible(content)
        lines = shown.count("\n") + 1
        if lines <= self.lines * 1.25 and len(shown) <= self.characters * 1.25:
            return Text(shown)
        head = "\n".join(shown[: self.characters].split("\n")[: self.lines]).rstrip()
        return Text(head, _size(lines, size), shown)


def _size(lines: int, characters: int) -> str:
    amount = f"{characters:,} characters" if characters < 10_000 else f"{characters / 1000:,.0f} k characters"
    return f"{lines:,} lines, {amount}" if lines > 1 else amount


MESSAGE = Fold(lines=40, characters=4_000)
TOOL = Fold(lines=12, characters=1_200)
BRIEF = Fold(lines=6, characters=500)
"""For all texts of a document of very many steps, and for what a model thought."""

_WIDE = 72
"""Characters of arguments that stand beside the name of their function."""


def signature(name: str, arguments: dict[str, JSON]) -> tuple[str, str]:
    """Return a call as one would write it, and what of its arguments is too long for that, each by its name."""
    written = {each: _json.dumps_text(value) for each, value in arguments.items()}
    short = ", ".join(f"{each}={value}" for each, value in written.items())
    if len(short) <= _WIDE:
        return f"{visible(name)}({visible(short)})", ""
    return visible(name), "\n".join(f"{each}: {_value(arguments[each], value)}" for each, value in written.items())


def _value(value: JSON, written: str) -> str:
    """A value; a text of several lines as these lines, anything else as JSON."""
    return "\n" + value.rstrip("\n") if isinstance(value, str) and "\n" in value else written
