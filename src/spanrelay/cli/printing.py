"""Prints an outline: in colour with `rich` where it is installed, else as plain text.

Both ways show the same words in the same places.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TextIO

from spanrelay.cli.outline import Branch, Piece

STYLES = {
    "title": "bold",
    "system": "bold magenta",
    "user": "bold cyan",
    "agent": "bold green",
    "tool": "yellow",
    "result": "",
    "error": "red",
    "quiet": "dim",
    "": "",
}
NARROWEST = 12
"""Columns that a line keeps however deep it stands."""


def print_outline(branch: Branch, stream: TextIO) -> None:
    """Print with what is installed."""
    if find_spec("rich") is not None:
        print_rich(branch, stream)
        return
    for line in plain_lines(branch, shutil.get_terminal_size().columns):
        print(line, file=stream)
    if stream.isatty():
        print("(plain text; `pip install rich` for colours)", file=sys.stderr)


def print_rich(branch: Branch, stream: TextIO) -> None:
    """Print with colours where `stream` is a terminal."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    def label(branch: Branch) -> Text:
        return Text("\n").join(Text.assemble(*((text, STYLES[style]) for text, style in line)) for line in branch.lines)

    def grow(tree: Tree, branch: Branch) -> Tree:
        for child in branch.children:
            grow(tree.add(label(child)), child)
        return tree

    Console(file=stream, highlight=False).print(grow(Tree(label(branch), guide_style="dim"), branch))


def plain_lines(branch: Branch, width: int, first: str = "", rest: str = "") -> Iterator[str]:
    """The lines of a tree; `first` and `rest` stand before the first and the further lines of this branch."""
    guide = first
    for line in branch.lines:
        for wrapped in wrap(line, max(width - len(rest), NARROWEST)):
            yield guide + wrapped
            guide = rest
    for at, child in enumerate(branch.children, 1):
        last = at == len(branch.children)
        yield from plain_lines(child, width, rest + ("└── " if last else "├── "), rest + ("    " if last else "│   "))


def wrap(line: list[Piece], width: int) -> list[str]:
    """One line without its styles, cut at `width` columns; an empty line stays one."""
    text = "".join(text for text, _ in line)
    return textwrap.wrap(text, width, drop_whitespace=False) or [""]
