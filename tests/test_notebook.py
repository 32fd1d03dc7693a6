"""A program's last run is shown: as a page in a notebook, as a tree elsewhere."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import spanrelay
from spanrelay import TrajectoryUnavailable


@pytest.fixture
def active(tmp_path: Path) -> Iterator[spanrelay.Runtime]:
    settings = spanrelay.Settings(trajectories="memory", metrics=False, quiet=True, trajectory_directory=str(tmp_path))
    runtime = spanrelay.activate(settings, tracer_provider=TracerProvider(shutdown_on_exit=False), instrument=False)
    assert runtime is not None
    yield runtime
    runtime.shutdown()


def ask(question: str, session: str) -> None:
    def answer(request: Any) -> Any:
        return {"choices": [{"message": {"role": "assistant", "content": f"You asked: {question}"}}]}

    with spanrelay.scope("bot", session=session):
        spanrelay.run_model(answer, {"model": "m", "messages": [{"role": "user", "content": question}]})


def test_the_last_run_is_a_tree_where_nothing_shows_pages(active: spanrelay.Runtime) -> None:
    ask("one", "s-1")
    ask("two", "s-2")
    ask("three", "s-1")
    assert spanrelay.show().document["session_id"] == "s-1"
    assert "You asked: two" in repr(spanrelay.show("s-2"))
    assert "You asked: three" in repr(spanrelay.show())


def test_a_notebook_gets_a_page_that_reaches_nothing_of_the_notebook(active: spanrelay.Runtime) -> None:
    pytest.importorskip("jinja2", reason="pages need jinja2")
    ask("<script>alert(1)</script>", "s-1")
    html = spanrelay.show()._repr_html_()
    assert html.startswith('<iframe sandbox="allow-scripts" ')
    assert html.count("<") == 2
    page = unescape(html.partition('srcdoc="')[2].rpartition('"></iframe>')[0])
    assert page.lower().startswith("<!doctype html>")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert(1)" not in page


def test_without_what_makes_pages_a_notebook_gets_the_tree(
    active: spanrelay.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spanrelay.view import page

    ask("<b>bold</b>", "s-1")
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "jinja2":
            raise ImportError("No module named 'jinja2'", name="jinja2")
        return real(name, *args, **kwargs)

    page._environment.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    html = spanrelay.show()._repr_html_()
    assert html.startswith("<pre>") and "You asked: &lt;b&gt;bold&lt;/b&gt;" in html


def test_that_there_is_nothing_to_show_is_said(active: spanrelay.Runtime) -> None:
    with pytest.raises(TrajectoryUnavailable, match="nothing has been recorded yet"):
        spanrelay.show()
    with pytest.raises(TrajectoryUnavailable, match="of session 's-9'"):
        spanrelay.show("s-9")


def test_importing_it_costs_a_program_nothing_before_it_shows(tmp_path: Path) -> None:
    code = "import spanrelay, sys; spanrelay.activate(); print(sorted({'jinja2', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
