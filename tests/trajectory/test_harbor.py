"""What we write passes the validator of those who read it."""

import base64
from pathlib import Path

import pytest
from tests.shared_data import SHARED
from tests.trajectory.harbor import complaints, needs_harbor
from tests.trajectory.program import Program, answers, call, calls, run, says, system, user
from tests.trajectory.spans import load

from spanrelay.assembly.exporter import AtifSpanExporter
from spanrelay.records import ErrorInfo, Media, Message, Text, Tokens

pytestmark = needs_harbor


def everything(directory: Path, version: str) -> None:
    """Write a document with most of what a document can have."""
    program = Program(directory, version=version)
    known = {"user_id": "ann", "metadata": {"case": 1}, "service_name": "shop", "environment": "prod"}
    root = program.agent("boss", session_id="s", **known)
    program.use(root, "setup", {}, "ready")
    picture = Media("image", "image/png", data=base64.b64encode(b"picture").decode())
    wanted = calls(("c1", "delegate", {"topic": "x"}), ("c2", "list", [1]))
    asked = [system("lead"), user("hi"), says("seen before"), Message("user", [Text("look"), picture])]
    program.ask(root, asked, wanted)
    outer = program.begin("tool", root)
    child = program.agent("researcher", outer)
    program.ask(child, [user("x")], says("found"))
    program.end(child)
    program.end(outer, **run("delegate", {"topic": "x"}, "summary", "c1", None))
    program.use(root, "list", [1], None, "c2", ErrorInfo("ValueError", "boom"))
    program.ask(root, [*asked, wanted, answers("c1", "summary"), answers("c2", "boom")], None, error=ErrorInfo("Busy"))
    program.ask(root, [user("summary of all"), answers("c2", "boom"), user("go on")], says("done"))
    judged = call([system("judge"), user("done?")], says("yes"), parameters={"temperature": 0.3})
    judged["response"].tokens = Tokens([1, 2], [3], [-0.5])
    program.end(program.begin("llm", root, metadata={"case": 2}), **judged)
    program.end(root)
    program.documents()


@pytest.mark.parametrize("version", ["1.7", "1.8"])
def test_harbor_accepts_a_document_with_everything(tmp_path: Path, version: str) -> None:
    everything(tmp_path, version)
    assert complaints(sorted(tmp_path.glob("*.json"))) == ""


@pytest.mark.skipif(SHARED is None, reason="the recorded spans are not here")
def test_harbor_accepts_what_becomes_of_recorded_spans(tmp_path: Path) -> None:
    for dump in sorted(((SHARED or Path()) / "spans").glob("*.json")):
        exporter = AtifSpanExporter(tmp_path / dump.stem)
        exporter.export(load(dump))
        exporter.shutdown()
    written = sorted(tmp_path.glob("*/*.json"))
    assert len(written) >= 8
    assert complaints(written) == ""
