"""Policy of a file holds for an SDK that the program imports again."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plugins.test_programs import DENY, REFUSED, TRY, configure
from tests.programs import run

from spanrelay_testkit.model_server import ModelServer

AGAIN = {
    "deleted": "for name in [n for n in sys.modules if n.split('.')[0] == 'openai']: del sys.modules[name]\n",
    "reloaded": "for name in ('._base_client', '._client', ''): importlib.reload(sys.modules[f'openai{name}'])\n",
    "reloaded in part": "importlib.reload(sys.modules['openai._base_client'])\n",
}


@pytest.mark.parametrize("launched", [True, False])
@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_an_sdk_that_is_imported_again_stands_under_the_policy(tmp_path: Path, launched: bool, again: str) -> None:
    configure(tmp_path, DENY)
    program = f"import importlib, sys, spanrelay\nspanrelay.activate()\nimport openai\n{again}{TRY}"
    program += "openai = importlib.import_module('openai')\nprint(openai.OpenAI is sys.modules['openai'].OpenAI)\n"
    with ModelServer() as server:
        ran = run(program, tmp_path, server, launched=launched, SPANRELAY_QUIET="true")
        assert (ran.code, ran.out.splitlines()) == (0, [REFUSED, "True"]), ran.err
        assert server.requests == []


def test_a_framework_that_is_imported_again_is_judged_by_its_new_classes(tmp_path: Path) -> None:
    pytest.importorskip("langchain_core", reason="the framework is not installed")
    configure(tmp_path, '[plugins.policy]\ntools.deny = ["delete_*"]\ntools.refused = "answer"')
    program = """
import sys, spanrelay
spanrelay.activate()
for _ in range(2):
    from langchain_core.messages import ToolMessage
    from langchain_core.tools import tool

    @tool
    def delete_file(name: str) -> str:
        "Delete."
        return "deleted"

    answer = delete_file.invoke({"type": "tool_call", "id": "1", "name": "delete_file", "args": {"name": "x"}})
    print(isinstance(answer, ToolMessage), answer.content)
    for name in [n for n in sys.modules if n.split(".")[0] == "langchain_core"]:
        del sys.modules[name]
"""
    said = "guardrail 'policy.tools' refused the call: tool 'delete_file' is denied by 'delete_*'"
    ran = run(program, tmp_path, launched=False, SPANRELAY_QUIET="true")
    assert (ran.code, ran.out.splitlines()) == (0, [f"True {said}"] * 2), ran.err
