"""`spanrelay watch --web` serves the pages of `view` as the runs grow, and to nobody else."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.view.conftest import PATIENCE, Browser, Visit
from tests.view.documents import BREAKOUTS, clerk, document, hostile, put, step, trip
from tests.view.growing import Growing

from spanrelay.cli import files
from spanrelay.view.live import Live
from spanrelay.view.serving import Site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "runs").mkdir()
    return folder


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    site = Site(Live(folder, files.trajectory, files.looks_like_one))
    yield site
    site.close()


@pytest.fixture
def growing(folder: Path) -> Iterator[Growing]:
    growing = Growing(folder, trip(), "trip-7")
    yield growing
    growing.close()


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def asked(site: Site, path: str = "", method: str = "GET", **headers: str) -> Answer:
    """What a request is answered; `path` is beneath the index, or begins with a slash."""
    address = urlsplit(site.address)
    connection = http.client.HTTPConnection(address.netloc)
    whole = path if path.startswith("/") else address.path + path
    connection.request(method, whole, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return Answer(answer.status, answer.headers, body)


# ── who is answered


def test_without_the_secret_nothing_is_told(site: Site, folder: Path) -> None:
    put(folder, "run.json", clerk())
    secret = urlsplit(site.address).path.strip("/")
    for path in ("/", "/1", f"/{secret}", f"/{secret[:-1]}/", f"/{secret}x/", "//", f"/x/{secret}/", "/%00/"):
        answer = asked(site, path)
        assert (answer.status, b"ticket" in answer.body) == (403, False), path
    assert asked(site).status == 200


def test_a_name_that_somebody_else_has_given_this_machine_is_refused(site: Site) -> None:
    port = urlsplit(site.address).port
    for name in (f"attacker.example:{port}", "127.0.0.1", f"127.0.0.1:{port}.attacker.example", ""):
        assert asked(site, Host=name).status == 403, name
    assert asked(site, Host=f"localhost:{port}").status == 200


def test_only_this_machine_is_listened_to(site: Site) -> None:
    assert site._server.socket.getsockname()[0] == "127.0.0.1"


def test_a_request_can_only_look(site: Site) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert asked(site, method=method).status == 501


def test_no_path_leads_to_a_file(site: Site, folder: Path) -> None:
    put(folder, "run.json", clerk())
    asked(site)
    for path in ("run.json", "../run.json", "..%2frun.json", "0", "2", "-1", "1/", "%EF%BC%91", "9" * 5000, "%31"):
        assert asked(site, path).status == 404, path
    assert asked(site, "1").status == 200
    (folder / "run.json").unlink()
    gone = asked(site, "1")
    assert (gone.status, gone.body) == (404, b"'run.json' has been removed\n")


def test_others_may_not_show_read_or_keep_a_page(site: Site) -> None:
    headers = asked(site).headers
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert (headers["Cache-Control"], headers["Referrer-Policy"]) == ("no-store", "no-referrer")
    assert "Access-Control-Allow-Origin" not in headers


def test_what_has_not_changed_is_not_sent_again(site: Site, growing: Growing) -> None:
    growing.step()
    for path in ("", "1"):
        tag = asked(site, path).headers["ETag"]
        again = asked(site, path, If_None_Match=tag)
        assert (again.status, again.body) == (304, b"")
        growing.step()
        assert asked(site, path, If_None_Match=tag).status == 200


# ── the pages


def expect(visit: Visit, selector: str, words: str) -> None:
    """Wait until a page says so."""
    from playwright.sync_api import expect as sooner_or_later

    sooner_or_later(visit.page.locator(selector).first).to_contain_text(words, timeout=PATIENCE)


def ran_nothing(visit: Visit, site: Site) -> bool:
    """Whether nothing but our own script ran, and nobody was asked but the site."""
    owned = visit.page.evaluate("window.owned === undefined && document.querySelectorAll('script').length === 1")
    return (
        owned and not visit.dialogs and not visit.messages and all(u.startswith(site.address) for u in visit.requests)
    )


def test_a_page_grows_with_its_run_and_what_is_open_stays_open(browser: Browser, site: Site, growing: Growing) -> None:
    for _ in range(6):
        growing.step()
    visit = browser.visit(site.address)
    expect(visit, ".counts", "growing 6 steps")
    visit.page.locator(".runs a").click()
    expect(visit, ".remark", "not finished: this page grows with it")
    visit.page.locator("#step-6 details.long summary").click()
    visit.page.fill("#find", "train")
    visit.expect_found("401 found")
    visit.page.locator("#step-2").evaluate("step => step.id = step.dataset.kept = 'step-2'")
    growing.step()
    expect(visit, "#step-7", "refused by policy")
    assert visit.page.locator("#step-6 details.long").get_attribute("open") is not None
    assert visit.page.locator("[data-kept]").count() == 1  # what has not changed was left alone
    assert visit.page.locator("#bad").is_visible()
    growing.finish()
    visit.page.locator(".remark", has_text="not finished").wait_for(state="detached", timeout=PATIENCE)
    assert visit.page.input_value("#find") == "train"
    assert ran_nothing(visit, site)


def test_a_page_says_when_the_program_of_its_run_is_gone(browser: Browser, site: Site, growing: Growing) -> None:
    growing.step()
    visit = browser.visit(site.address)
    expect(visit, ".counts", "growing 1 step")
    growing.abandon()
    expect(visit, ".counts", "left unfinished 1 step")
    visit.page.locator(".runs a").click()
    expect(visit, ".remark", "left unfinished, as its program is gone: `spanrelay recover` finishes it")
    assert ran_nothing(visit, site)


def test_a_new_run_appears_in_the_index_and_filters_stay(browser: Browser, site: Site, folder: Path) -> None:
    visit = browser.visit(site.address)
    expect(visit, "#runs", "No run yet")
    put(folder, "one.json", clerk())
    expect(visit, "#runs", "A ticket to Oslo.")
    visit.page.select_option("#agent", label="travel-agent")
    other = document([step(1, "user", "What is for dinner?")])
    other["agent"]["name"] = "cook"
    put(folder, "two.json", other)
    visit.expect_found("1 of 2")
    visit.page.select_option("#agent", label="any agent")
    visit.expect_found("2")
    visit.page.locator(".runs a", has_text="dinner").click()
    visit.page.locator("a", has_text="all runs").click()
    expect(visit, "#runs", "dinner")
    assert ran_nothing(visit, site)


def test_nothing_of_a_hostile_run_is_more_than_text_when_it_is_taken_over(
    browser: Browser, site: Site, folder: Path
) -> None:
    visit = browser.visit(site.address)
    for at, attack in enumerate(BREAKOUTS):
        made = document([step(1, "user", attack)], session_id=attack)
        made["agent"].update(name=attack, model_name=attack)
        put(folder, f"{at}.json", made)
    path = put(folder, "run.json", hostile("http://127.0.0.1:9"))
    visit.expect_found(str(len(BREAKOUTS) + 1))
    assert visit.page.locator("img").count() == 0
    whole = path.read_bytes()
    put(folder, "run.json", clerk())
    expect(visit, ".runs", "A ticket to Oslo.")
    visit.page.locator(".runs a", has_text="A ticket").click()
    expect(visit, "#state", "live")
    path.write_bytes(whole)
    expect(visit, "#step-1", "<script>owned=1</script>")
    assert visit.page.locator("main img, main script, main a[href^=http]").count() == 0
    assert ran_nothing(visit, site)


def test_a_page_says_when_it_is_not_watched_any_more(browser: Browser, folder: Path) -> None:
    site = Site(Live(folder, files.trajectory, files.looks_like_one))
    visit = browser.visit(site.address)
    expect(visit, "#state", "live")
    site.close()
    expect(visit, "#state", "not watched any more")


# ── the command


def test_the_browser_is_given_a_file_and_no_secret(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(seen := tmp_path / "seen")
    (opener := tmp_path / "browser").write_text(f'#!/bin/sh\nexec >{seen}\necho "$1"\ncat "${{1#file://}}"\n')
    opener.chmod(0o700)
    settings = {**os.environ, "BROWSER": f"{opener} %s", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "spanrelay", "watch", str(folder), "--web"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("spanrelay watch: ").strip()
        argument, leads = seen.read_text().splitlines()
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stderr and process.stderr.read()) == (0, "")
    assert f"url={address}" in leads
    assert urlsplit(address).path.strip("/") not in argument
    assert not Path(urlsplit(argument).path).parent.exists()
