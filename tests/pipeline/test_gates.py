"""Gates: switch another registration off for new calls while something holds."""

from __future__ import annotations

from typing import Any

import pytest

from spanrelay import GuardrailRejected, execution_intercept, gate, guardrail, run_tool, scope, use
from spanrelay_testkit.capture import Capture


@guardrail
def never(call: Any) -> str:
    return "no"


def ask() -> Any:
    return run_tool("t", lambda: 1)


def test_a_closed_gate_switches_its_target_off(capture: Capture) -> None:
    holds = ["maintenance"]

    @gate("never")
    def in_maintenance(call: Any) -> str | None:
        return holds[0] if holds else None

    with use(never), use(in_maintenance):
        assert ask() == 1
        holds.clear()
        with pytest.raises(GuardrailRejected):
            ask()


def test_others_stay_on(capture: Capture) -> None:
    seen: list[str] = []

    @execution_intercept
    def watch(call: Any) -> Any:
        seen.append(call.kind)
        return (yield call)

    @gate("never")
    def always(call: Any) -> str:
        return "closed"

    with use(never), use(always), use(watch):
        assert ask() == 1
    assert seen == ["tool"]


@pytest.mark.swallows
def test_a_gate_that_breaks_leaves_its_target_on(capture: Capture) -> None:
    @gate("never")
    def broken(call: Any) -> str:
        raise LookupError("no such condition")

    with use(never), use(broken), pytest.raises(GuardrailRejected):
        ask()


def test_a_gate_of_a_scope_holds_there_only(capture: Capture) -> None:
    @gate("never")
    def always(call: Any) -> str:
        return "closed"

    with use(never):
        with scope("trusted") as trusted:
            trusted.use(always)
            assert ask() == 1
        with pytest.raises(GuardrailRejected):
            ask()


def test_a_gate_must_name_its_targets() -> None:
    with pytest.raises(TypeError, match="names what it switches off"):
        gate()
