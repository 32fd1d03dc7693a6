"""`docs/runbook.md` quotes what is really printed."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import opentelemetry.trace
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "runbook.md").read_text()
LINES = [line for block in re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]
HOLE = re.compile(r"%[srd]|%\.\d[a-z]")


def texts() -> str:
    """Every text that our code has, a line each; `…` where something is put in."""
    found: list[str] = []
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("instrumentors/*/src/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(HOLE.sub("…", node.value))
    return "\n".join(found)


TEXTS = texts()


@pytest.mark.parametrize("line", LINES)
def test_a_quoted_message_is_one_that_is_printed(line: str) -> None:
    ours, _, message = line.partition(": ")
    if not ours.startswith("spanrelay"):
        assert line in inspect.getsource(opentelemetry.trace)
        return
    # What is put together at run time is put together at these; `config.shown` says a variable as `NAME=value`.
    pieces = [piece.strip(" ;:,") for piece in re.split(r"[A-Z_]+=…|…|; |: ", message)]
    assert any(len(piece) > 8 for piece in pieces)
    assert [piece for piece in pieces if piece and piece not in TEXTS] == []


def test_a_message_that_is_not_in_the_code_is_found() -> None:
    assert "the collector is on holiday" not in TEXTS
    assert LINES


def test_every_variable_on_the_page_is_one() -> None:
    from spanrelay import config

    named = set(re.findall(r"SPANRELAY_\w+", PAGE))
    assert named <= {row.variable for row in config.TABLE}


def test_every_check_that_the_table_of_symptoms_names_is_one() -> None:
    from spanrelay.doctor import reading, table

    named = {name for row in PAGE.splitlines() if row.startswith("| [") for name in re.findall(r"`([a-z ]+)`[,)]", row)}
    assert len(named) > 8
    assert named <= {*table.CHECKS, reading.CHECK}


def test_every_symptom_of_the_table_leads_to_a_section() -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.*)$", PAGE, re.M)}
    symptoms = set(re.findall(r"^\| \[[^]]*\]\(#([^)]*)\)", PAGE, re.M))
    assert len(symptoms) == 6 and symptoms <= headings
