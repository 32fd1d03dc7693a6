"""Documents go from the folder to other places as well, each until it is taken or refused for good."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.collecting.receiver import Receiver
from tests.collecting.test_collecting import (
    REQUESTS,
    command,
    converted,
    documents_in,
    port_of,
    post,
    request_of,
    until,
)

from spanrelay._guard import losses
from spanrelay.collecting.delivery import journal
from spanrelay.collecting.delivery.addresses import targets_of
from spanrelay.collecting.delivery.courier import PACE, Bag, Courier
from spanrelay.collecting.delivery.journal import Journal
from spanrelay.collecting.delivery.letters import Letters
from spanrelay.collecting.delivery.outlet import PLACE, Deliveries
from spanrelay.collecting.delivery.posting import Webhook
from spanrelay.collecting.delivery.targets import Parcel, outcome_of
from spanrelay.collecting.serving import Collector, Options, start
from spanrelay.errors import ConfigurationError
from spanrelay.exporters.outbox import Answer, Outcome, Pace
from spanrelay.exporters.redirects import status_text

SOON = Pace(first=0.01, longest=0.05)
Standing = Callable[..., Collector]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().running() as server:
        yield server


@pytest.fixture
def standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standing]:
    running: list[Collector] = []
    monkeypatch.setattr("spanrelay.collecting.serving.Deliveries", lambda *given: Deliveries(*given, pace=SOON))

    def begin(*targets: Any) -> Collector:
        options = Options(tmp_path / "runs", ("127.0.0.1", 0), None, to=targets, silence=0.01)
        running.append(start(options))
        return running[-1]

    yield begin
    for collector in running:
        if collector._thread.is_alive():
            collector.stop()


def figures_of(collector: Collector) -> dict[str, int]:
    text = httpx.get(f"http://127.0.0.1:{collector.http_port}/metrics").text
    lines = [line for line in text.splitlines() if "{to=" in line]
    return {line.partition("{")[0].removeprefix("spanrelay_"): int(line.rpartition(" ")[2]) for line in lines}


def test_a_document_is_posted_as_it_is_written_and_again_when_it_is_written_again(
    standing: Standing, receiver: Receiver, tmp_path: Path
) -> None:
    collector = standing(Webhook(f"{receiver.url}?tenant=7", {"authorization": "Bearer abc"}))
    post(collector, REQUESTS[0].SerializeToString())
    [first] = until(lambda: receiver.posts)
    post(collector, REQUESTS[3].SerializeToString())
    _, second = until(lambda: receiver.posts[1:] and receiver.posts)
    assert (first.path, first.headers["authorization"]) == ("/trajectories?tenant=7", "Bearer abc")
    assert first.headers["content-type"] == "application/json"
    assert (first.headers["ce-specversion"], first.headers["ce-type"]) == ("1.0", "spanrelay.trajectory.written")
    assert (first.name, second.name) == ("session-1.json", "session-1.json")
    assert first.headers["ce-id"] != second.headers["ce-id"]
    assert first.headers["idempotency-key"] == f'"{first.headers["ce-id"]}"'
    assert second.body == (tmp_path / "runs" / "session-1.json").read_bytes()
    assert "session-1.json" in documents_in(tmp_path / "runs")


def test_a_server_that_is_away_holds_up_nothing_and_gets_all_when_it_is_back(
    standing: Standing, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status = 503
    collector = standing(Webhook(receiver.url))
    for request in REQUESTS:
        assert post(collector, request.SerializeToString()).status_code == 200
    wanted = converted(REQUESTS, tmp_path / "wanted")
    until(lambda: documents_in(tmp_path / "runs") == wanted)
    until(lambda: figures_of(collector)["delivery_retries_total"] > 3)
    health = httpx.get(f"http://127.0.0.1:{collector.http_port}/healthz")
    told = health.json()["deliveries"][receiver.url]
    assert (health.status_code, told["waiting"]) == (200, 4)
    assert "503 Service Unavailable" in told["reason"]
    receiver.status = 200
    until(lambda: receiver.bodies == wanted)
    until(lambda: figures_of(collector)["deliveries_waiting"] == 0)
    assert httpx.get(f"http://127.0.0.1:{collector.http_port}/healthz").json() == {"status": "ok"}
    assert figures_of(collector)["deliveries_total"] >= 4


def test_the_same_version_has_the_same_id_however_often_it_is_sent(standing: Standing, receiver: Receiver) -> None:
    receiver.status = 500
    collector = standing(Webhook(receiver.url))
    post(collector, REQUESTS[0].SerializeToString())
    until(lambda: len(receiver.posts) > 2)
    receiver.status = 200
    until(lambda: receiver.bodies)
    assert len({each.headers["ce-id"] for each in receiver.posts}) == 1


def test_what_is_refused_for_good_is_kept_with_the_reason_and_sent_once_more_at_the_next_start(
    standing: Standing, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.status, receiver.said = 422, b"no such tenant"
    collector = standing(Webhook(receiver.url))
    for request in REQUESTS[:2]:
        post(collector, request.SerializeToString())
    until(lambda: figures_of(collector)["dead_letters_total"] == 2)
    assert figures_of(collector)["deliveries_waiting"] == 0
    [letters] = (tmp_path / "runs" / PLACE).glob("*/collected/dead-letters")
    names = [f"session-{number}.json{end}" for number in (1, 2) for end in ("", ".reason.json")]
    assert sorted(path.name for path in letters.iterdir()) == names
    assert documents_in(tmp_path / "runs").items() <= {p.name: p.read_bytes() for p in letters.iterdir()}.items()
    told = json.loads((letters / "session-1.json.reason.json").read_bytes())
    assert told["reason"] == f"{receiver.url} answered {status_text(422)}: no such tenant"
    collector.stop()
    assert losses.take() == {"trajectories refused where they were delivered to": 2}
    receiver.status = 200
    standing(Webhook(receiver.url))
    until(lambda: set(receiver.bodies) == {"session-1.json", "session-2.json"})
    until(lambda: list(letters.iterdir()) == [])


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.DELIVERED),
        (204, Outcome.DELIVERED),
        (302, Outcome.RETRY),
        (400, Outcome.REFUSED),
        (403, Outcome.REFUSED),
        (408, Outcome.RETRY),
        (413, Outcome.REFUSED),
        (429, Outcome.RETRY),
        (500, Outcome.RETRY),
        (503, Outcome.RETRY),
    ],
)
def test_a_status_says_whether_to_send_again(status: int, outcome: Outcome) -> None:
    assert outcome_of(status) is outcome


def test_a_document_whose_trace_turns_out_to_be_of_a_session_is_removed_there_too(
    standing: Standing, receiver: Receiver, tmp_path: Path
) -> None:
    nameless, named = request_of(1, None), request_of(1, "session-1")
    named.resource_spans[0].scope_spans[0].spans[0].span_id = (99).to_bytes(8, "big")
    collector = standing(Webhook(receiver.url))
    post(collector, nameless.SerializeToString())
    [before] = until(lambda: dict(receiver.bodies))
    post(collector, named.SerializeToString())
    until(lambda: set(receiver.bodies) == {"session-1.json"})
    until(lambda: receiver.bodies == documents_in(tmp_path / "runs"))
    [removed] = [each for each in receiver.posts if each.headers["ce-type"] == "spanrelay.trajectory.removed"]
    assert (removed.name, removed.body) == (before, b"")


def test_an_end_sends_what_waits(standing: Standing, receiver: Receiver, tmp_path: Path) -> None:
    collector = standing(Webhook(receiver.url))
    for request in REQUESTS:
        post(collector, request.SerializeToString())
    collector.stop()
    assert receiver.bodies == documents_in(tmp_path / "runs") == converted(REQUESTS, tmp_path / "wanted")


# --- what waits, at any moment ---


class Slot:
    """A target that takes what a test lets it."""

    name, takes_media = "https://example.com/slot", True

    def __init__(self) -> None:
        self.sent: list[Parcel] = []
        self.answer = Answer(Outcome.DELIVERED)
        self.meanwhile: Callable[[], object] = lambda: None

    def send(self, parcel: Parcel) -> Answer:
        self.sent.append(parcel)
        self.meanwhile()
        return self.answer

    @property
    def told(self) -> list[tuple[str, bytes | None]]:
        return [(parcel.name, parcel.data) for parcel in self.sent]


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[tuple[Slot, Deliveries]]:
    target = Slot()
    deliveries = Deliveries(tmp_path, [target], SOON)
    yield target, deliveries
    deliveries.close()
    losses.take()


def waiting_in(folder: Path) -> dict[str, int]:
    [path] = folder.glob(f"{PLACE}/*/part/waiting")
    opened = Journal(path)
    opened.close()
    return opened.waiting


def settled(deliveries: Deliveries) -> None:
    until(lambda: all(each.waiting == 0 for each in deliveries.figures.values()))


def test_a_kill_before_it_is_delivered_leaves_it_to_the_next_start(
    tmp_path: Path, slot: tuple[Slot, Deliveries]
) -> None:
    target, deliveries = slot
    outlet = deliveries.outlet("part")
    (tmp_path / "gone.json").write_bytes(b"gone")
    outlet.begin("a.json")
    (tmp_path / "a.json").write_bytes(b"a")
    outlet.begin("never-written.json")
    outlet.begin("gone.json", removed=True)
    (tmp_path / "gone.json").unlink()
    assert target.sent == []  # killed here: nothing is settled
    deliveries.outlet("part")
    settled(deliveries)
    assert sorted(target.told) == [("a.json", b"a"), ("gone.json", None)]
    assert waiting_in(tmp_path) == {}


def test_a_removal_that_a_kill_kept_from_happening_removes_nothing(
    tmp_path: Path, slot: tuple[Slot, Deliveries]
) -> None:
    target, deliveries = slot
    (tmp_path / "a.json").write_bytes(b"a")
    deliveries.outlet("part").begin("a.json", removed=True)
    deliveries.outlet("part")
    settled(deliveries)
    assert target.told == [("a.json", b"a")]


def test_what_is_written_while_it_is_on_its_way_is_sent_again(tmp_path: Path, slot: tuple[Slot, Deliveries]) -> None:
    target, deliveries = slot
    outlet = deliveries.outlet("part")

    def write_again() -> None:
        if len(target.sent) == 1:
            outlet.begin("a.json")
            (tmp_path / "a.json").write_bytes(b"second")
            outlet.settle()

    target.meanwhile = write_again
    outlet.begin("a.json")
    (tmp_path / "a.json").write_bytes(b"first")
    outlet.settle()
    until(lambda: len(target.sent) == 2)
    settled(deliveries)
    assert target.told == [("a.json", b"first"), ("a.json", b"second")]
    assert waiting_in(tmp_path) == {}


def test_nothing_is_sent_between_its_beginning_and_its_end(tmp_path: Path, slot: tuple[Slot, Deliveries]) -> None:
    target, deliveries = slot
    outlet = deliveries.outlet("part")
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_bytes(b"old")
    outlet.begin("a.json")
    other = deliveries.outlet("other")
    other.begin("b.json")
    other.settle()
    until(lambda: target.sent)
    assert target.told == [("b.json", b"old")]
    (tmp_path / "a.json").write_bytes(b"new")
    outlet.settle()
    settled(deliveries)
    assert target.told[1:] == [("a.json", b"new")]


def test_media_go_where_they_are_taken_and_before_the_document(tmp_path: Path, slot: tuple[Slot, Deliveries]) -> None:
    target, deliveries = slot
    outlet = deliveries.outlet("part")
    outlet.begin("images/a.png", is_medium=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"png")
    outlet.settle()
    settled(deliveries)
    assert target.told == [("images/a.png", b"png")]
    target.takes_media = False
    outlet.begin("images/b.png", is_medium=True)
    outlet.settle()
    assert waiting_in(tmp_path) == {}


def a_bag(folder: Path) -> Bag:
    return Bag(folder, Journal(folder / "waiting"), Letters(folder / "letters"))


class Times:
    """A clock that stands still."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_target_is_left_alone_for_as_long_as_it_asks(tmp_path: Path) -> None:
    target, bag = Slot(), a_bag(tmp_path)
    target.answer = Answer(Outcome.RETRY, "busy", retry_after=1800.0)
    courier = Courier(target, PACE, clock=(clock := Times()))
    (tmp_path / "a.json").write_bytes(b"a")
    courier.add(bag, "a.json", 1)
    until(lambda: courier.figures.retried)
    assert courier._health.until == clock.now + 1800
    target.answer = Answer(Outcome.DELIVERED)
    clock.now += 1799
    assert courier._due() is None
    clock.now += 1
    with courier._changed:
        courier._changed.notify_all()
    until(lambda: courier.figures.delivered)
    assert courier.close() == 0
    bag.journal.close()


def test_pauses_grow_to_a_minute_and_no_two_are_alike(tmp_path: Path) -> None:
    pauses = [PACE.pause(failures) for failures in range(1, 40)]
    assert 0.3 < pauses[0] < 0.7
    assert 45 <= min(pauses[10:]) < max(pauses) <= 75
    assert len(set(pauses[10:])) > 20


def test_one_that_fails_again_and_again_holds_up_no_other(tmp_path: Path, slot: tuple[Slot, Deliveries]) -> None:
    target, deliveries = slot
    outlet = deliveries.outlet("part")

    def answer() -> None:
        bad = target.sent[-1].name == "bad.json"
        target.answer = Answer(Outcome.RETRY, "broken") if bad else Answer(Outcome.DELIVERED)

    target.meanwhile = answer
    (tmp_path / "bad.json").write_bytes(b"")
    outlet.begin("bad.json")
    outlet.settle()
    until(lambda: target.sent)
    for number in range(20):
        (tmp_path / f"{number}.json").write_bytes(b"")
        outlet.begin(f"{number}.json")
        outlet.settle()
        until(lambda number=number: f"{number}.json" in dict(target.told))
    assert list(waiting_in(tmp_path)) == ["bad.json"]


def test_beyond_what_may_wait_the_oldest_becomes_a_dead_letter(tmp_path: Path) -> None:
    target, bag = Slot(), a_bag(tmp_path)
    target.answer = Answer(Outcome.RETRY, "away", retry_after=3600)
    courier = Courier(target, most=2, clock=Times())
    for number in range(4):
        (tmp_path / f"{number}.json").write_bytes(b"%d" % number)
        bag.journal.note(f"{number}.json", removed=False)
        courier.add(bag, f"{number}.json", 1)
        until(lambda: courier.figures.retried)
    assert (courier.figures.dead, courier.figures.waiting) == (2, 2)
    assert courier.close() == 2
    kept = {path.name: path.read_bytes() for path in (tmp_path / "letters").glob("?.json")}
    assert len(kept) == 2
    assert set(bag.journal.waiting) == {f"{number}.json" for number in range(4)} - set(kept)
    bag.journal.close()
    losses.take()


def test_a_journal_keeps_what_waits_through_a_torn_line_and_when_it_has_grown_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_LONGEST", 50)
    (tmp_path / "waiting").write_bytes(b'["a.json",1]\n["b.json",')
    opened = Journal(tmp_path / "waiting")
    assert opened.waiting == {"a.json": 1}
    for number in range(500):
        opened.note(f"{number}.json", removed=False)
        opened.done(f"{number}.json")
    opened.note("c.json", removed=True)
    opened.close()
    assert len((tmp_path / "waiting").read_bytes().splitlines()) < 200
    assert list(waiting_of(tmp_path / "waiting")) == ["a.json", "c.json"]


def waiting_of(path: Path) -> dict[str, int]:
    opened = Journal(path)
    opened.close()
    return opened.waiting


# --- the command ---


def test_what_a_killed_collector_has_not_delivered_is_delivered_by_the_next(receiver: Receiver, tmp_path: Path) -> None:
    receiver.status = 503
    process = command(tmp_path / "runs", "--to", receiver.url)
    url = f"http://127.0.0.1:{port_of(process)}/v1/traces"
    for request in REQUESTS:
        httpx.post(url, content=request.SerializeToString())
    wanted = converted(REQUESTS, tmp_path / "wanted")
    until(lambda: documents_in(tmp_path / "runs") == wanted and receiver.posts)
    process.kill()
    process.communicate()
    receiver.status = 200
    process = command(tmp_path / "runs", "--to", receiver.url)
    port_of(process)
    until(lambda: receiver.bodies == wanted)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("urls", "headers", "said"),
    [
        (["ftp://host/a"], {}, "'ftp://host/a' must be https://HOST/PATH or s3://BUCKET/PREFIX"),
        (["s3://user:secret@bucket/a"], {}, "'s3://bucket/a' must be"),
        (["s3:///a"], {}, "must be"),
        (["https://"], {}, "must be https://HOST/PATH"),
        (["https://user:secret@host:x/"], {}, "--to 'https://host:x/' is not an address"),
        (["https://a/b", "https://a/b"], {}, "'https://a/b' twice"),
        (["https://a/b", "https://c/d"], {"x": "y"}, "names 2 servers"),
        ([], {"x": "y"}, "there is no http(s):// among the targets"),
    ],
)
def test_an_address_that_is_none_is_told(urls: list[str], headers: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        targets_of(urls, headers)
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.skipif(find_spec("boto3") is not None, reason="boto3 is here")
def test_a_bucket_without_the_extra_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"'s3://bucket/a' needs boto3: pip install 'spanrelay\[s3\]'"):
        targets_of(["s3://bucket/a"])


@pytest.mark.parametrize("value", [None, "authorization"])
def test_headers_that_are_none_are_told(value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv("HEADERS", value)
    process = command(tmp_path / "runs", "--to", "https://host/", "--to-headers-variable", "HEADERS")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "HEADERS must hold NAME=VALUE,NAME=VALUE" in err
