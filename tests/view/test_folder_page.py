"""The page of a folder has a line for each trajectory, filters, and charts of what they add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.view.conftest import Browser
from tests.view.documents import BREAKOUTS, call, calls, clerk, document, hostile, put, step, trip

from spanrelay.cli import main


def run(at: int, agent: str = "clerk", model: str = "gpt-5", **more: Any) -> dict[str, Any]:
    """A run of two model calls and a tool, on a day of its own."""
    took = {"duration_sec": 1.0 + at}
    spent = {"prompt_tokens": 100, "completion_tokens": 10, "cost_usd": 0.5}
    steps = [
        step(1, "user", f"Question {at}"),
        step(2, "agent", "", metrics=spent, extra=took, **calls(call("look_up", "gone", **more))),
        step(3, "agent", f"Answer {at}", metrics={**spent, "prompt_tokens": 300}, extra=took),
    ]
    for each in steps:
        each["timestamp"] = each["timestamp"].replace("-01T", f"-{at + 1:02}T")
    made = document(steps, final_metrics={"total_prompt_tokens": 400, "total_completion_tokens": 20, "total_steps": 3})
    made["session_id"] = f"s-{at}"
    made["agent"].update(name=agent, model_name=model)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    put(folder, "a.json", run(1))
    put(folder, "b.json", run(2, is_error=True))
    put(folder, "c.json", run(3, agent="cook", model="gpt-5-mini"))
    return folder


@pytest.fixture(scope="module")
def index(folder: Path) -> Path:
    site = folder / "site"
    assert main(["view", str(folder), "-o", f"{site}/"]) == 0
    return site / "index.html"


def shown(visit: Any) -> list[str]:
    """The first words of the lines that are shown."""
    return [each.inner_text() for each in visit.page.locator(".runs .words").all() if each.is_visible()]


def test_every_trajectory_has_a_line_that_leads_to_its_page(browser: Browser, index: Path) -> None:
    visit = browser.visit(index, java_script_enabled=False)
    assert shown(visit) == ["Question 3", "Question 2", "Question 1"]
    assert visit.page.locator(".runs > li").first.inner_text().endswith("3 steps · 420 tokens")
    visit.page.locator(".runs a", has_text="Question 2").click()
    assert "Answer 2" in visit.text("#step-3")


def test_charts_say_what_stats_says(browser: Browser, index: Path) -> None:
    visit = browser.visit(index)
    charts = {each.split("\n")[0]: each.split("\n")[1:] for each in visit.page.locator(".bars").all_inner_texts()}
    assert charts["Cost by model"] == ["gpt-5", "$2.0000", "gpt-5-mini", "$1.0000"]
    assert charts["Failed calls by tool"] == ["look_up", "33.3% of 3"]
    assert charts["Latency by model, median and 95th percentile"][:2] == ["gpt-5", "2.0 s, p95 3.0 s"]
    columns = visit.page.locator(".chart g title").all_text_contents()
    assert columns == ["step 1: 100 in, 10 out", "step 2: 300 in, 10 out"]
    assert visit.ran_nothing()


def test_lines_are_filtered_and_put_in_order(browser: Browser, index: Path) -> None:
    visit = browser.visit(index)
    visit.page.select_option("#agent", label="clerk")
    assert shown(visit) == ["Question 2", "Question 1"]
    visit.page.check("#faults")
    assert shown(visit) == ["Question 2"]
    assert visit.text("#found") == "1 of 3"
    visit.page.uncheck("#faults")
    visit.page.select_option("#agent", "")
    visit.page.fill("#find", "s-1")
    visit.expect_found("1 of 3")
    visit.page.fill("#find", "")
    visit.page.select_option("#order", "errors")
    visit.expect_found("3")
    assert shown(visit)[0] == "Question 2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_index_has_nothing_beside_it(browser: Browser, index: Path, scheme: str) -> None:
    visit = browser.visit(index, width=400, color_scheme=scheme)
    assert visit.page.evaluate("document.scrollingElement.scrollWidth") == 400


def test_nothing_of_hostile_documents_is_more_than_text_in_an_index(browser: Browser, tmp_path: Path) -> None:
    put(tmp_path / "runs", "hostile.json", hostile("http://127.0.0.1:9"))
    (tmp_path / "runs" / "<img src=x onerror=owned=1>.json").write_text("{")
    for at, attack in enumerate(BREAKOUTS):
        put(tmp_path / "runs", f"{at}.json", run(at, agent=attack, model=attack))
    assert main(["view", str(tmp_path / "runs"), "-o", str(tmp_path / "index.html")]) == 1
    visit = browser.visit(tmp_path / "index.html")
    assert visit.page.locator("img, a").count() == 0
    assert (
        visit.page.locator("option", has_text="<svg onload=owned=1>").count() == 2 + 2
    )  # those of one document, and of all in one
    assert visit.ran_nothing()


def test_what_cannot_be_read_has_a_line_that_says_why(tmp_path: Path, browser: Browser, capsys: Any) -> None:
    put(tmp_path, "good.json", trip())
    put(tmp_path, "other.json", {**clerk(), "schema_version": "ATIF-next"})
    (tmp_path / "half.json").write_text('{"schema_version": "ATIF-v1.7", "session_id": "s", "steps": [')
    assert main(["view", str(tmp_path), "-o", str(tmp_path / "index.html")]) == 1
    assert capsys.readouterr().err.count("spanrelay: ") == 2
    visit = browser.visit(tmp_path / "index.html")
    faults = sorted(visit.page.locator(".runs .said.error").all_inner_texts())
    assert len(faults) == 2
    assert "got 'ATIF-next'" in faults[1]
    assert "is not JSON" in faults[0]
    assert shown(visit)[-1:] == ["How do I get from Bergen to Oslo?"]


def test_of_several_trajectories_there_is_an_index(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    assert main(["view", str(folder / "a.json"), str(folder / "b.json"), "-o", str(page)]) == 0
    told = page.read_text()
    assert "Question 1" in told
    assert "Question 2" in told
    assert "Question 3" not in told


def test_a_folder_without_a_trajectory_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(tmp_path), "-o", str(tmp_path / "index.html")]) == 1
    assert "no trajectory in" in capsys.readouterr().err
