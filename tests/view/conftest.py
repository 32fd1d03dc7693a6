"""A real browser without a window, which tells what a page asked for, said and ran."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from spanrelay.cli import main

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 300_000
"""Milliseconds after which something will not happen any more, however busy the machine is."""


@dataclass
class Visit:
    """A page in the browser, and what it did that a page should not."""

    page: Any
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def expect_found(self, words: str) -> None:
        """Wait until the page says how much was found."""
        from playwright.sync_api import expect

        expect(self.page.locator("#found")).to_have_text(words, timeout=PATIENCE)

    def ran_nothing(self) -> bool:
        """Whether nothing but our own script ran, and nothing was asked for beside the page."""
        owned = self.page.evaluate("window.owned === undefined && document.querySelectorAll('script').length === 1")
        return owned and not self.dialogs and not self.messages and self.requests == [self.page.url.partition("#")[0]]


class Browser:
    """Opens pages, each in a profile of its own."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def visit(self, path: Path | str, anchor: str = "", *, width: int = 1100, **settings: Any) -> Visit:
        context = self._engine.new_context(viewport={"width": width, "height": 800}, **settings)
        context.set_default_timeout(PATIENCE)
        visit = Visit(context.new_page())
        visit.page.on("request", lambda request: visit.requests.append(request.url.partition("#")[0]))
        visit.page.on("dialog", lambda dialog: (visit.dialogs.append(dialog.message), dialog.dismiss()))
        visit.page.on("console", lambda message: visit.messages.append(message.text))
        visit.page.on("pageerror", lambda error: visit.messages.append(str(error)))
        visit.page.goto((path if isinstance(path, str) else path.as_uri()) + anchor)
        return visit

    def close(self) -> None:
        """Close what was opened, and leave the engine for the next."""
        for context in self._engine.contexts:
            context.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """Of a module: while it lives, nothing else in this process can have a loop."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        engine = started.chromium.launch(executable_path=program, timeout=PATIENCE)
        yield engine
        engine.close()


@pytest.fixture
def browser(engine: Any) -> Iterator[Browser]:
    browser = Browser(engine)
    yield browser
    browser.close()


def page_of(*arguments: object, to: Path) -> Path:
    """Let the command write a page, and return it."""
    assert main(["view", *map(str, arguments), "-o", str(to)]) == 0
    return to
