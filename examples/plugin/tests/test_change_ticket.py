"""The plugin's own tests: its judgement as a function, and its effect on real calls."""

from pathlib import Path

import pytest
from change_ticket import ChangeTicketConfig, ChangeTicketPlugin, refusal

import spanrelay
from spanrelay.plugins import Context

CONFIG = ChangeTicketConfig(tools=["delete_*"], free_users=["on-call"])


@pytest.mark.parametrize(
    ("tool", "arguments", "user", "refused"),
    [
        ("delete_disk", {"ticket": "CHG-1"}, None, False),
        ("delete_disk", {"ticket": "later"}, None, True),
        ("delete_disk", {}, None, True),
        ("delete_disk", None, None, True),
        ("delete_disk", {}, "on-call", False),
        ("list_disks", {}, None, False),
    ],
)
def test_tools_that_change_something_need_a_ticket(tool: str, arguments: object, user: str, refused: bool) -> None:
    assert (refusal(CONFIG, tool, arguments, user) is not None) == refused


def test_a_pattern_that_is_none_is_told() -> None:
    [problem] = ChangeTicketPlugin().validate(ChangeTicketConfig(tools=["a"], pattern="("))
    assert problem.key == "pattern"


def test_while_the_plugin_is_in_force_a_call_without_a_ticket_is_refused(tmp_path: Path) -> None:
    audit = tmp_path / "refused.txt"
    context = Context(ChangeTicketConfig(tools=["delete_*"], audit_file=str(audit)), "change_ticket")
    ChangeTicketPlugin().register(context)
    with pytest.raises(spanrelay.GuardrailRejected, match="needs the number of a change ticket"):
        spanrelay.run_tool("delete_disk", lambda: None)
    context.close()
    assert spanrelay.run_tool("delete_disk", lambda: "done") == "done"
    assert audit.read_text() == "delete_disk needs the number of a change ticket as 'ticket'\n"
