"""`docs/reference/` is what the sources say; `python -m tests.reference.test_pages` writes it anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import spanrelay
from spanrelay.records import Kind, SpanRecord

pytest.importorskip("griffe", reason="what reads the docstrings needs Python 3.11")

from tests.reference.api import GROUPS, MADE, MODULES, PACKAGE, api, found, modules
from tests.reference.commands import cli
from tests.reference.telemetry import telemetry, whole

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {"api": api, "modules": modules, "cli": cli, "telemetry": telemetry}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_sources_say(page: str) -> None:
    assert (FOLDER / f"{page}.md").read_text() == PAGES[page]()


def test_every_public_name_is_on_the_page() -> None:
    assert sorted(path for paths in GROUPS.values() for path in paths if "." not in path) == spanrelay.__all__


def test_everything_that_is_listed_says_what_it_is() -> None:
    listed = [path for paths in GROUPS.values() for path in paths]
    listed += [f"{module}.{name}" for module, names in MODULES.items() for name in names]
    assert [path for path in listed if found(path).docstring is None] == []
    assert set(MADE) <= {found(path).name for path in listed}


def test_what_a_module_offers_by_name_is_on_the_page() -> None:
    for module, names in MODULES.items():
        assert set(names) <= set(PACKAGE[module].exports or names), module


def test_the_spans_that_are_written_hold_everything() -> None:
    empty = SpanRecord(0, 0)
    held = {
        each.name for kind in get_args(Kind) for each in fields(SpanRecord) if _differs(whole(kind), empty, each.name)
    }
    of_reading = {
        "parent_id",
        "remote_parent",
        "parent_trace_id",
        "content",
        "truncated",
        "marks",
        "dialect",
        "attempts",
    }
    of_sources = {"scope_name", "scope_version", "service_name", "service_version", "environment", "operation"}
    assert {each.name for each in fields(SpanRecord)} - held == of_reading | of_sources | {"omitted", "missing"}


def _differs(record: SpanRecord, empty: SpanRecord, name: str) -> bool:
    return getattr(record, name) != getattr(empty, name)


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / f"{name}.md").write_text(page())
