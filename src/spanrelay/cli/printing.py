"""Prints an outline: in colour with `rich` where it is installed, else as plain text.

Both ways show the same words in the same places.
"""

from __future__ import annotations

import itertools
import shutil
import unicodedata
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TextIO

from spanrelay._voice import say
from spanrelay.cli.outline import Branch, Piece

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

STYLES = {
    "title": "bold",
    "system": "bold magenta",
    "user": "bold cyan",
    "agent": "bold green",
    "tool": "yellow",
    "result": "",
    "error": "red",
    "left": "red",
    "right": "green",
    "quiet": "dim",
    "": "",
}
NARROWEST = 12
"""Columns that a line keeps however deep it stands."""
NARROWEST_COLUMN = 6
"""How far a column of a table is wrapped so that lines fit a terminal."""
ASCII = str.maketrans(
    {"├": "|", "└": "`", "│": "|", "─": "-", "→": ">", "✗": "x", "·": "-", "…": "...", "█": "#", "●": "*"}
)
"""What stands for our own characters where the terminal's encoding has them not."""


def print_outline(branch: Branch, stream: TextIO) -> None:
    """Print with what is installed."""
    if find_spec("rich") is not None:
        print_rich(branch, stream)
        return
    plain = not has_our_characters(stream)
    for line in plain_lines(branch, shutil.get_terminal_size().columns):
        print(line.translate(ASCII) if plain else line, file=stream)
    if stream.isatty():
        say("plain text; `pip install rich` for colors")


def print_rich(branch: Branch, stream: TextIO) -> None:
    """Print with colours where `stream` is a terminal."""
    from rich.console import Console

    Console(file=stream, highlight=False).print(rich_tree(branch))


def rich_tree(branch: Branch) -> Tree:
    """Return an outline as what `rich` prints."""
    from rich.tree import Tree

    def grow(tree: Tree, branch: Branch) -> Tree:
        for child in branch.children:
            grow(tree.add(rich_lines(child.lines)), child)
        return tree

    return grow(Tree(rich_lines(branch.lines), guide_style="dim"), branch)


def rich_lines(lines: list[list[Piece]]) -> Text:
    """Return lines of pieces as what `rich` prints: text, with nothing in it that is markup."""
    from rich.text import Text

    return Text("\n").join(Text.assemble(*((text, STYLES[style]) for text, style in line)) for line in lines)


@contextmanager
def shown_progress(stream: TextIO) -> Generator[Callable[[str, int, int], object]]:
    """Show how far something is, where `stream` is a terminal and `rich` is installed.

    What is given is to be called with what is being done, how much of it is done, and of how much; 0 where that is
    unknown.
    """
    if not stream.isatty() or find_spec("rich") is None:
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    shown: dict[str, Any] = {}
    bars = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,}"), TimeElapsedColumn())
    with Progress(*bars, console=Console(file=stream), transient=True) as progress:

        def tell(what: str, done: int, total: int) -> None:
            if what not in shown:
                shown[what] = progress.add_task(what, total=total or None)
            progress.update(shown[what], completed=done)

        yield tell


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    stream: TextIO,
    *,
    right: Collection[int] = (),
    elastic: Collection[int] = (),
) -> None:
    """Print rows under headings; nothing where there are no rows.

    The columns in `right` are flush right. On a terminal those that are `elastic` are wrapped so that lines fit it;
    elsewhere each row is one line.
    """
    if not rows:
        return
    widths = [max(columns(line[at]) for line in (headings, *rows)) for at in range(len(headings))]
    if stream.isatty():
        shrink(widths, elastic, shutil.get_terminal_size().columns)
    plain = not has_our_characters(stream)
    for row in (headings, *rows):
        wrapped = [wrap([(cell, "")], max(width, 1)) for cell, width in zip(row, widths, strict=True)]
        for line in itertools.zip_longest(*wrapped, fillvalue=""):
            cells = [padded(cell.rstrip(), widths[at], at in right) for at, cell in enumerate(line)]
            text = "  ".join(cells).rstrip()
            print(text.translate(ASCII) if plain else text, file=stream)


def shrink(widths: list[int], elastic: Collection[int], width: int) -> None:
    """Take columns of a terminal from the widest of the elastic ones until all fit or none has any to spare."""
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(elastic, key=lambda at: widths[at], default=None)
        if widest is None or widths[widest] <= NARROWEST_COLUMN:
            return
        widths[widest] -= 1


def padded(cell: str, width: int, right: bool) -> str:
    """Return a cell with blanks beside it."""
    blanks = " " * (width - columns(cell))
    return blanks + cell if right else cell + blanks


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


def has_our_characters(stream: TextIO) -> bool:
    """Whether the encoding of a stream has the characters that trees, marks and bars are made of."""
    try:
        "├└│─→✗·…█●".encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def wrap(line: list[Piece], width: int) -> list[str]:
    """One line without its styles, cut at `width` columns, between words where it can; an empty line stays one."""
    lines, used = [""], 0
    for word in _words("".join(text for text, _ in line)):
        size = columns(word)
        if used + size > width and used:
            lines.append("")
            used = 0
            if word.isspace():
                continue
        if size <= width:
            lines[-1] += word
            used += size
        else:
            *whole, rest = (word[at : at + width] for at in range(0, len(word), width))
            lines[-1:] = [*whole, rest]
            used = columns(rest)
    return lines


def _words(text: str) -> Iterator[str]:
    """Yield words and the white space between them; wide characters, which need no space, one by one."""
    for kind, letters in itertools.groupby(text, _kind):
        if kind == "wide":
            yield from letters
        else:
            yield "".join(letters)


def _kind(letter: str) -> str:
    return "space" if letter.isspace() else "wide" if _is_wide(letter) else "word"


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes: two for a wide character, none for a mark upon another."""
    if text.isascii():
        return len(text)
    return sum(2 if _is_wide(letter) else 0 if unicodedata.combining(letter) else 1 for letter in text)


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"
