"""What the plugin `prompt_cache` learned is there for other processes, and says nothing of what was said."""

from __future__ import annotations

import json
import multiprocessing
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.prompts import workloads
from benchmarks.saving import MODELS, Clock, automatic, outcome

from spanrelay.cli import main
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.places import place_of
from spanrelay.plugins.plugin import Secret
from spanrelay.plugins.prompt_cache.governor import Governor
from spanrelay.plugins.prompt_cache.learned import KEPT_SCAFFOLDS, Place, document_in, memory_of

MODEL = "claude-sonnet-5"
BOT = workloads(MODEL)["support bot, 6 k scaffold, 200 sessions of 3 calls"][:6]
PAUSES = workloads(MODEL)["people answer after 6 to 20 minutes, 10 turns"][:2]

Opened = Callable[[], Place]


@pytest.fixture(params=["sqlite", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the one place, again and again."""
    path, url = (tmp_path / "learned.sqlite3", None)
    if request.param == "redis":
        path, url = None, Secret(request.getfixturevalue("redis_server").url)

    def opens() -> Place:
        place = place_of(path, url, "prompt_cache")
        assert place is not None
        return place

    return opens


def run(place: Place, sessions: Any = BOT) -> float:
    """Run a program once; return what its input costs in percent."""
    clock = Clock()
    governor = Governor(applies=True, clock=clock, place=place)
    assert governor.learned is not None
    governor.learned.begin()
    cost = outcome(sessions, MODELS[MODEL], governor.govern, clock).cost
    governor.learned.close()
    return cost


def test_what_one_process_learns_the_next_one_knows(opened: Opened) -> None:
    first, second = (run(opened(), PAUSES) for _ in range(2))
    assert second < first - 5, "it knows that people pause"
    prices = MODELS[MODEL]
    assert second < outcome(PAUSES, prices, automatic("1h"), Clock()).cost + 1


def test_what_several_have_counted_adds_up(opened: Opened) -> None:
    governors = [Governor(applies=True, clock=Clock(), place=opened()) for _ in range(2)]
    for governor in governors:
        governor.learned.begin()  # type: ignore[union-attr] - it has a place
        outcome(BOT, MODELS[MODEL], governor.govern, governor._clock)  # type: ignore[arg-type] - it is a `Clock`
    for _ in range(2):
        for governor in governors:
            governor.learned.exchange()  # type: ignore[union-attr] - as above
    both = [governor._memory.accounts["anthropic", MODEL].answers for governor in governors]
    assert both == [2 * 18] * 2
    assert len(document_in(opened().read())["scaffolds"]) == 1
    for governor in governors:
        governor.learned.close()  # type: ignore[union-attr] - as above
    assert memory_of(opened().read()).accounts["anthropic", MODEL].answers == 36


def _count(path: str, times: int) -> None:
    for _ in range(times):
        run(place_of(Path(path), None, "prompt_cache"), BOT[:1])  # type: ignore[arg-type] - there is one


def test_two_processes_count_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "learned.sqlite3"
    workers = [multiprocessing.get_context("spawn").Process(target=_count, args=(str(path), 4)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    place = place_of(path, None, "prompt_cache")
    assert place is not None
    assert memory_of(place.read()).accounts["anthropic", MODEL].answers == 2 * 4 * 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_text_is_kept(opened: Opened) -> None:
    run(opened())
    told = (opened().read() or b"").decode()
    assert "support" not in told
    assert "sss" not in told, "its system prompt"
    assert max(map(len, told.replace('"', " ").split())) < 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\x00",
        b"[1]",
        b'{"version":2}',
        b'{"version":1,"scaffolds":[],"numbers":{}}',
        b'{"version":1,"scaffolds":{"a":{"api":1}},"numbers":{"all first":[1,"x",3],"account a":[1,2,3],"all x":[1]}}',
        b'{"version":1,"scaffolds":{},"numbers":{"all first":[-5,9,1e300],"account a m":[1,2,3],"ratio a m":[-1]}}',
    ],
)
def test_a_document_that_is_none_of_ours_is_begun_anew(data: bytes, opened: Opened) -> None:
    opened().change(lambda _: data)
    run(opened(), BOT[:2])
    memory = memory_of(opened().read())
    assert memory.accounts["anthropic", MODEL].answers == 6
    assert 0 <= memory.first.soon <= memory.first.later <= memory.first.asked + 1 < 64


def test_only_so_many_scaffolds_are_kept(opened: Opened) -> None:
    scaffolds = {str(at): {"api": "anthropic", "model": "m", "used": at} for at in range(KEPT_SCAFFOLDS + 5)}
    document = {"version": 1, "scaffolds": scaffolds, "numbers": {"0 first": [1, 1, 1], "9 first": [1, 1, 1]}}
    opened().change(lambda _: json.dumps(document).encode())
    run(opened(), BOT[:1])
    kept = document_in(opened().read())
    assert len(kept["scaffolds"]) == KEPT_SCAFFOLDS
    assert ("0 first" in kept["numbers"], "9 first" in kept["numbers"]) == (False, True)


@pytest.mark.swallows
def test_a_file_that_breaks_later_loses_no_call(tmp_path: Path) -> None:
    place = place_of(path := tmp_path / "learned.sqlite3", None, "prompt_cache")
    assert place is not None
    path.write_bytes(b"no database" * 100)
    assert run(place, BOT[:2]) < 100


# --- the command ---


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "spanrelay.toml"
    file.write_text('[plugins.prompt_cache]\nmode = "apply"\npath = "learned.sqlite3"\n')
    return file


def test_the_command_shows_what_is_known_and_forgets_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = place_of(file.with_name("learned.sqlite3"), None, "prompt_cache")
    assert place is not None
    run(place)
    assert main(["adaptive", "show", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "claude-sonnet-5" in shown
    assert "system 5m" in shown
    assert "18 answers" in shown
    assert main(["adaptive", "reset", str(file)]) == 0
    capsys.readouterr()
    assert main(["adaptive", "show", str(file)]) == 0
    assert "claude" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "told"), [("", "is in no file"), ("[plugins.prompt_cache]\n", "memory of its process")]
)
def test_the_command_says_where_nothing_is_kept(
    file: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(text)
    assert main(["adaptive", "show", str(file)]) == 1
    assert told in capsys.readouterr().err


def test_a_place_that_cannot_be_is_told(file: Path) -> None:
    file.write_text('[plugins.prompt_cache]\npath = "there/is/no/such.sqlite3"\n')
    with pytest.raises(Exception, match="is in a folder that does not exist"):
        Activation([PolicyFile(str(file), "chosen")]).start()
