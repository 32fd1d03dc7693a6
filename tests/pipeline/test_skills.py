"""Skill loads: which calls load a skill whole, and the mark that says so."""

from __future__ import annotations

from typing import Any

import pytest

from spanrelay import GuardrailRejected, guardrail, run_tool, use
from spanrelay.pipeline.skills import skills_loaded
from spanrelay_testkit.capture import Capture

LOADS: list[tuple[str, Any, list[tuple[str, str]]]] = [
    ("skill", {"skill": "pdf"}, [("pdf", "skill_tool")]),
    ("Skill", {"skill_name": "pdf"}, [("pdf", "skill_tool")]),
    ("skill_view", {"name": " pdf "}, [("pdf", "skill_tool")]),
    ("read_file", {"path": "/skills/pdf/SKILL.md"}, [("pdf", "structured_read")]),
    ("mcp__fs__ReadFile", {"file_path": "skills/pdf/skill.md"}, [("pdf", "structured_read")]),
    ("fs.read", {"path": "a\\pdf\\SKILL.md", "offset": 0, "limit": None}, [("pdf", "structured_read")]),
    (
        "read_multiple_files",
        {"paths": ["a/pdf/SKILL.md", "b/xls/SKILL.md", "c/pdf/SKILL.md"]},
        [("pdf", "structured_read"), ("xls", "structured_read")],
    ),
    ("bash", {"command": "cat a/pdf/SKILL.md"}, [("pdf", "shell_read")]),
    ("bash", {"command": "cat -u 'my skills/pdf/SKILL.md'"}, [("pdf", "shell_read")]),
    ("bash", {"command": "bash -lc 'cat a/pdf/SKILL.md'"}, [("pdf", "shell_read")]),
    ("shell", {"command": ["bash", "-lc", "cat a/pdf/SKILL.md"]}, [("pdf", "shell_read")]),
    ("bash", {"command": "bat -p a/pdf/SKILL.md"}, [("pdf", "shell_read")]),
    ("powershell", {"command": "Get-Content a/pdf/SKILL.md"}, [("pdf", "shell_read")]),
]

NONE: list[tuple[str, Any]] = [
    ("search", {"path": "a/pdf/SKILL.md"}),
    ("read_file", {"path": "SKILL.md"}),
    ("read_file", {"path": "./SKILL.md"}),
    ("read_file", {"path": "../SKILL.md"}),
    ("read_file", {"path": "a/pdf/README.md"}),
    ("read_file", {"path": "a/pdf/SKILL.md", "limit": 10}),
    ("read_file", {"path": "a/pdf/SKILL.md", "offset": 3}),
    ("read_file", {"path": 7}),
    ("bash", {"command": "cat a/pdf/SKILL.md | head"}),
    ("bash", {"command": "cat a/pdf/SKILL.md > x"}),
    ("bash", {"command": "cat a/pdf/SKILL.md; ls"}),
    ("bash", {"command": "cat $(ls)/pdf/SKILL.md"}),
    ("bash", {"command": "cat a/pdf/SKILL.md b/xls/SKILL.md"}),
    ("bash", {"command": "cat -n a/pdf/SKILL.md"}),
    ("bash", {"command": "bat a/pdf/SKILL.md"}),
    ("bash", {"command": "head a/pdf/SKILL.md"}),
    ("bash", {"command": "bash -c \"bash -c 'cat a/pdf/SKILL.md'\""}),
    ("bash", {"command": "cat 'unclosed"}),
    ("bash", {"command": ["cat", 7]}),
    ("skill", None),
    ("skill", {"skill": ""}),
]


@pytest.mark.parametrize(("tool", "arguments", "skills"), LOADS)
def test_a_whole_skill_is_seen(tool: str, arguments: Any, skills: list[tuple[str, str]]) -> None:
    assert skills_loaded(tool, arguments) == skills


@pytest.mark.parametrize(("tool", "arguments"), NONE)
def test_a_part_of_one_and_anything_else_is_not(tool: str, arguments: Any) -> None:
    assert skills_loaded(tool, arguments) == []


def test_a_skill_that_is_loaded_is_a_mark_on_the_tools_span(capture: Capture) -> None:
    run_tool("read_file", lambda path: "…", {"path": "skills/pdf/SKILL.md"})
    [event] = capture.span.events
    assert event.name == "skill.load"
    assert dict(event.attributes or {}) == {
        "skill_name": "pdf",
        "skill_load_source": "structured_read",
        "tool_name": "read_file",
    }


def test_a_refused_call_loads_nothing(capture: Capture) -> None:
    @guardrail
    def never(call: Any) -> str:
        return "no"

    with use(never), pytest.raises(GuardrailRejected):
        run_tool("read_file", lambda path: "…", {"path": "skills/pdf/SKILL.md"})
    assert [event.name for event in capture.spans[-1].events] == ["exception"]
