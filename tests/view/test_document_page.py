"""The page of one trajectory says everything, with and without JavaScript, and nothing on it runs or leaves."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.programs import command, environment
from tests.test_example_policy import DENIED, SPENT, run_example
from tests.view.conftest import Browser, page_of
from tests.view.documents import clerk, hostile, long, newer, png, put, trip

from spanrelay_testkit.model_scripts import weather
from spanrelay_testkit.model_server import ModelServer

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of `trip`, with what stands beside it."""
    folder = tmp_path_factory.mktemp("trip")
    put(folder, "clerk.json", clerk())
    (folder / "images").mkdir()
    (folder / "images" / "ticket.png").write_bytes(png())
    return page_of(put(folder, "trip.json", trip()), to=folder / "trip.html")


def test_without_javascript_the_whole_conversation_is_there(browser: Browser, page: Path) -> None:
    visit = browser.visit(page, java_script_enabled=False)
    told = visit.text("main")
    for words in ("You plan trips.", "How do I get from Bergen to Oslo?", 'get_weather(city="Oslo")', "8 °C, rain"):
        assert words in told
    assert not visit.page.locator("#bar").is_visible()  # nothing that would do nothing
    assert "399:00 train" not in told
    visit.page.locator("#step-6 summary").click()  # folded by its size; the browser itself opens it
    assert "399:00 train" in visit.text("#step-6")


def test_the_head_counts_and_the_steps_say_tokens_cost_and_the_cached_share(browser: Browser, page: Path) -> None:
    visit = browser.visit(page)
    figures = dict(
        zip(*(visit.page.locator(f".figures {part}").all_inner_texts() for part in ("dt", "dd")), strict=True)
    )
    assert figures["steps"] == "11 3 conversations"
    assert figures["tokens in"] == "4,800 75% cached"
    assert figures["cost"] == "$0.0492 known of 4 of 7 calls"
    assert (figures["errors"], figures["refused by policy"]) == ("1", "2")
    assert "3.0 s · 1,200 in (75% cached) · 50 out · $0.0123 · +20.0 s" in visit.text("#step-3 h2")


def test_errors_refusals_and_verdicts_are_marked_where_they_happened(browser: Browser, page: Path) -> None:
    visit = browser.visit(page)
    assert visit.page.locator("#step-3 .call").nth(1).locator("h3").inner_text() == 'book(city="Oslo") failed 200 ms'
    assert visit.text("#step-3 .said.refused") == "tool 'delete_trip' is denied by 'delete_*'"
    assert visit.page.locator("#step-7 .mark").text_content() == "refused by policy"
    visit.page.keyboard.press("x")
    visit.page.keyboard.press("x")
    visit.page.keyboard.press("x")
    assert visit.text(".step.now > .n") == "7"
    assert visit.text("#found") == "fault 3 of 3"


def test_sub_agents_are_threads_within_the_call_that_began_them(browser: Browser, page: Path) -> None:
    visit = browser.visit(page, "#step-4.1.2")  # a link to a step of one opens what it is in
    expert = visit.page.locator("[id='step-4.1.2']")
    assert expert.is_visible()
    assert "The train, by a needle." in expert.inner_text()
    visit.page.locator("#step-5 details.thread > summary").click()
    assert "Here it is." in visit.text("#step-5 details.thread")  # this one is in a file of its own


def test_spans_are_drawn_by_time_and_lead_to_their_steps(browser: Browser, page: Path) -> None:
    visit = browser.visit(page)
    rows = visit.page.locator(".rows li").all_inner_texts()
    assert [row.split("\n")[0] for row in rows][:4] == ["gpt-5", "get_weather", "book", "delete_trip"]
    at = {
        row.split("\n")[0]: row
        for row in visit.page.locator(".rows rect").evaluate_all(
            "all => all.map(each => each.closest('li').innerText.split('\\n')[0] + '\\n' + each.getAttribute('x'))"
        )
    }
    assert float(at["get_weather"].split("\n")[1]) > 0
    visit.page.locator(".rows a", has_text="rail-expert").click()
    assert visit.page.url.endswith("#step-4.1.1")
    assert visit.page.locator("[id='step-4.1.1']").is_visible()


def test_a_picture_beside_the_document_is_in_the_page(browser: Browser, page: Path) -> None:
    visit = browser.visit(page)
    assert visit.page.locator("#step-5 img").evaluate("image => image.naturalWidth") == 40
    assert visit.ran_nothing()


def test_search_finds_words_in_what_is_folded_and_goes_there(browser: Browser, page: Path) -> None:
    visit = browser.visit(page)
    visit.page.keyboard.press("/")
    visit.page.keyboard.type("BY A NEEDLE")
    visit.page.keyboard.press("Enter")
    visit.expect_found("1 of 1")
    assert visit.page.locator("[id='step-4.1.2']").is_visible()
    visit.page.fill("#find", "train")
    visit.expect_found("403 found")  # a folded text counts once
    visit.page.fill("#find", "no such words (")
    visit.expect_found("nothing found")


def test_keys_go_from_step_to_step_and_fold(browser: Browser, page: Path) -> None:
    visit = browser.visit(page)
    for _ in range(6):
        visit.page.keyboard.press("j")
    assert visit.text(".step.now > .n") == "6"
    folded = visit.page.locator("#step-6 details.long")
    assert folded.get_attribute("open") is None
    visit.page.keyboard.press("e")
    assert folded.get_attribute("open") is not None
    visit.page.keyboard.press("k")
    assert visit.text(".step.now > .n") == "5"
    visit.page.keyboard.press("ArrowUp")
    assert visit.text(".step.now > .n") == "4"
    visit.page.locator("#fold").click()
    assert visit.page.locator("main details:not(.rest):not([open])").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_in_either_theme_has_nothing_beside_it(browser: Browser, page: Path, scheme: str) -> None:
    visit = browser.visit(page, width=400, color_scheme=scheme)
    visit.page.locator("#fold").click()
    assert visit.page.evaluate("document.scrollingElement.scrollWidth") == 400
    red, *_ = map(int, re.findall(r"\d+", visit.page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert (red > 128) == (scheme == "light")


def test_all_of_a_page_prints_without_what_paper_has_no_use_for(browser: Browser, tmp_path: Path) -> None:
    page = page_of(put(tmp_path, "run.json", long(120)), to=tmp_path / "page.html")
    visit = browser.visit(page, color_scheme="dark")
    assert visit.page.pdf().count(b"/Type /Page\n") > 20  # of what is far below the window too
    visit.page.emulate_media(media="print")
    assert not visit.page.locator("#bar").is_visible()
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


# ── what agents really leave


def test_the_demo_is_a_page(browser: Browser, tmp_path: Path) -> None:
    with ModelServer(weather) as server:
        program = command(str(EXAMPLES / "weather_agent.py"))
        subprocess.run(program, cwd=tmp_path, env=environment(server, {}), check=True, timeout=120)
    [document] = (tmp_path / ".spanrelay" / "trajectories").glob("*.json")
    visit = browser.visit(page_of(document, to=tmp_path / "page.html"))
    assert 'get_weather(city="San Francisco")' in visit.text("main")
    assert visit.page.locator(".rows li").count() >= 4  # its model calls took time
    assert visit.ran_nothing()


def test_refusals_of_the_example_of_policy_are_told_as_such(browser: Browser, tmp_path: Path) -> None:
    [document] = run_example(tmp_path / "policy").trajectories
    (tmp_path / "run.json").write_text(document)
    visit = browser.visit(page_of(tmp_path / "run.json", to=tmp_path / "page.html"))
    said = visit.page.locator(".said.refused").all_inner_texts()
    assert DENIED in said[0]
    assert SPENT in said[1]
    assert visit.page.locator(".mark.error").count() == 0


# ── what is hostile


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


SUSPECT = """() => {
    const ours = {
        id: /^(step-[0-9.]+|bar|find|found|bad|fold|conversation)$/,
        class: /^[a-z0-9 ]*$/,
        href: /^(#step-[0-9.]+|data:,)$/,
        src: /^data:image\\/png;base64,[A-Za-z0-9+\\/=]*$/,
    };
    const never = /^(on.*|style|srcdoc|srcset|action|formaction|background|poster|ping|http-equiv=refresh)$/;
    return [...document.querySelectorAll('*')].flatMap((each) => [...each.attributes]).filter((one) =>
        never.test(one.name) || (ours[one.name] && !ours[one.name].test(one.value))
    ).map((one) => `${one.name}=${one.value}`);
}"""
"""What of a page is no text: attributes that only a document could have made so."""


def test_nothing_of_a_hostile_document_runs_loads_or_becomes_more_than_text(
    browser: Browser, tmp_path: Path, listener: tuple[str, list[str]]
) -> None:
    server, asked = listener
    folder = tmp_path / "inside"
    document = put(folder, "run.json", hostile(server))
    put(tmp_path, "outside.json", trip())
    (tmp_path / "secret.png").write_bytes(png())
    (folder / "images").mkdir()
    (folder / "images" / "evil.png").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='owned=1'/>")
    page = page_of(document, to=tmp_path / "page.html")
    for scripts in (True, False):
        visit = browser.visit(page, java_script_enabled=scripts)
        assert visit.page.evaluate(SUSPECT) == []
        assert visit.page.locator("img").count() == 0
        assert visit.page.locator("script").count() == 1
        told = visit.page.locator("#step-1").text_content()
        assert "<script>owned=1</script><img src=x onerror=owned=1><a href='javascript:owned=1'>x</a>" in told
        assert "{{ 7 * 7 }}" in visit.page.locator("#step-6").text_content()
        hidden = r"\x1b[2J\x1b]8;;http://127.0.0.1/\x07 \u202egpj.exe\u2066 \U000e0041\x00"
        assert hidden in visit.page.locator("#step-8").text_content()
        if scripts:
            visit.page.locator("#fold").click()
            for place in range(visit.page.locator("main [class]").count() // 20):
                visit.page.locator("main [class]").nth(place).dispatch_event("mouseover")
            assert visit.ran_nothing()
    assert asked == []


def test_a_browser_lets_a_page_do_nothing_even_if_something_got_into_it(
    browser: Browser, page: Path, listener: tuple[str, list[str]], tmp_path: Path
) -> None:
    server, asked = listener
    attack = (
        f"<script>owned=1</script><script src={server}/s.js></script><img src={server}/i.png onerror=owned=1>"
        f"<style>@import url({server}/c.css)</style><iframe src={server}/f></iframe><base href={server}/>"
        f"<video src={server}/v></video><object data={server}/o></object><link rel=stylesheet href={server}/l.css>"
    )
    (broken := tmp_path / "broken.html").write_text(page.read_text().replace("You plan trips.", attack))
    visit = browser.visit(broken)
    visit.page.wait_for_load_state("networkidle")
    assert visit.page.evaluate("window.owned") is None
    assert asked == []


def test_a_document_of_a_newer_version_opens_with_a_note_and_with_all_that_it_has(
    browser: Browser, tmp_path: Path
) -> None:
    visit = browser.visit(page_of(put(tmp_path, "run.json", newer()), to=tmp_path / "run.html"))
    text = visit.page.locator("body").inner_text()
    assert "ATIF-v1.12 is newer than ATIF-v1.8, the last version that is known here" in text
    assert 'not understood: $.mood = {"calm":0.9}' in text
    assert "The door opens." in text and "A fjord." in text and "fjord.mp4" in text
    whole = visit.page.content()  # folded
    assert all(words in whole for words in ("environment", "plan", "watts", "look"))


def test_media_that_are_not_there_are_named(browser: Browser, tmp_path: Path) -> None:
    page = page_of(put(tmp_path, "trip.json", trip()), to=tmp_path / "page.html")
    told = browser.visit(page).text("#step-5")
    assert "image images/ticket.png (not beside the document)" in told
    assert "sub-agent in clerk.json: not beside the document" in told


# ── what is long


@pytest.mark.slow
def test_twenty_thousand_steps_open_scroll_and_are_searched(browser: Browser, tmp_path: Path) -> None:
    page = page_of(put(tmp_path, "run.json", long(20_000, lines=10)), to=tmp_path / "page.html")
    visit = browser.visit(page, "#step-19900")
    assert visit.page.locator("#step-19900").evaluate("step => step.getBoundingClientRect().top < innerHeight")
    visit.page.fill("#find", "of file 12345")
    visit.page.keyboard.press("Enter")
    visit.expect_found("1 of 10")
    assert visit.page.locator("#step-12345").evaluate("step => step.getBoundingClientRect().top < innerHeight")
