"""What tests say that they prove, by marks, for pages that are written from it."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

NOTHING = "\N{EN DASH}"
"""What a cell of a table holds that no test proves."""


@dataclass(frozen=True)
class Proof:
    """What one test proves: a quality of a framework, or of whatever a page is about."""

    framework: str
    quality: str
    path: Path
    name: str
    left_out: bool
    """Whether the test is marked as one that does not run, or may fail."""

    @property
    def target(self) -> str:
        """Where a link of the page leads, and its title."""
        path = Path(os.path.relpath(self.path, DOCS)).as_posix()
        return f'{path} "{self.name.removeprefix("test_").replace("_", " ")}"'


def proofs_of(path: Path, by: str = "proves") -> Iterator[Proof]:
    """What the tests of a file say they prove, with the mark `by`."""
    text = path.read_text()
    if f"mark.{by}(" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and is_test(node.name):
            left_out = any(mark_of(one)[0] in ("skip", "xfail") for one in node.decorator_list)
            for mark, arguments in map(mark_of, node.decorator_list):
                if mark == by:
                    framework, *qualities = arguments
                    yield from (Proof(framework, quality, path, node.name, left_out) for quality in qualities)


def is_test(name: str) -> bool:
    return name.startswith(("test_", "Test"))


def mark_of(decorator: ast.expr) -> tuple[str, list[str]]:
    """The name of `@pytest.mark.name(…)`, and its arguments that are texts."""
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    if not ast.unparse(call).startswith("pytest.mark."):
        return "", []
    arguments = decorator.args if isinstance(decorator, ast.Call) else []
    return ast.unparse(call).removeprefix("pytest.mark."), [
        one.value for one in arguments if isinstance(one, ast.Constant) and isinstance(one.value, str)
    ]


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |\n"
