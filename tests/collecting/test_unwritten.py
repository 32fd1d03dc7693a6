"""What a process was writing when it was killed is removed by the next that writes there, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.trajectory.test_sinks import killed_while_writing

from spanrelay.assembly.spool import TEMPORARY, create
from spanrelay.collecting.delivery.outlet import PLACE, Deliveries
from spanrelay.collecting.delivery.posting import Webhook
from spanrelay.collecting.kafka.assembling import Assembling
from spanrelay.collecting.kafka.clients import Kafka
from spanrelay.collecting.serving import Options, start
from spanrelay.collecting.sessions import Terms
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder


def collect(folder: Path) -> None:
    start(Options(folder, ("127.0.0.1", 0), None)).stop()


def assemble(folder: Path) -> None:
    Assembling(Kafka("127.0.0.1:9"), folder, Terms(), Deliveries(folder))


def convert(folder: Path) -> None:
    work.convert([], Folder(folder))


@pytest.mark.parametrize("write", [collect, assemble, convert])
def test_the_next_that_writes_into_a_folder_removes_what_the_killed_have_left(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    [document] = killed_while_writing(tmp_path / "session.json")
    [image] = killed_while_writing(tmp_path / "images" / "a.png")
    (tmp_path / "whole.json").write_bytes(b"{}")
    live = tmp_path / f".live.json.0000{TEMPORARY}"
    with create(live):  # as another process that is writing
        write(tmp_path)
        assert [document.exists(), image.exists(), live.exists()] == [False, False, True]
    assert (tmp_path / "whole.json").exists()
    write(tmp_path)
    assert list(tmp_path.rglob(f"*{TEMPORARY}")) == []


def test_what_was_left_among_what_is_to_be_delivered_is_removed_as_well(tmp_path: Path) -> None:
    target = Webhook("https://example.com/")
    for _ in range(2):
        deliveries = Deliveries(tmp_path, [target])
        deliveries.outlet("part").close()
        deliveries.close()
        [place] = tmp_path.glob(f"{PLACE}/*/part")
        assert list(place.rglob(f"*{TEMPORARY}")) == []
        (place / "dead-letters").mkdir(exist_ok=True)
        for path in (place / "dead-letters" / "a.json", place / "waiting"):
            killed_while_writing(path)
