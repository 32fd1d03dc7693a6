"""Rules about what tools are given: alike in every form of arguments, and closed where they cannot judge."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from langchain_core.tools import tool as langchain_tool
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from spanrelay import ConfigurationError, GuardrailRejected, request_intercept, run_tool, tool, use
from spanrelay.pipeline.trial import take_report
from spanrelay_langchain import LangChainInstrumentor
from spanrelay_testkit.capture import Capture


def refused(name: str, *given: Any) -> str | None:
    """The reason for which a tool is not executed, or None."""
    try:
        assert run_tool(name, lambda *values, **named: "ran", *given) == "ran"
    except GuardrailRejected as refusal:
        assert refusal.name.startswith("policy.rules")
        return refusal.reason
    return None


def rule(text: str) -> str:
    return f'[[plugins.policy.tools.rules]]\ntool = "pay_*"\nargument = "/order/amount"\n{text}'


@pytest.mark.parametrize(
    ("text", "amount", "holds"),
    [
        ("gt = 1000", 1001, True),
        ("gt = 1000", 1000, False),
        ("ge = 1000", 1000.0, True),
        ("lt = 0", -1, True),
        ("le = 0", 1, False),
        ("gt = 10\nlt = 20", 15, True),
        ("gt = 10\nlt = 20", 25, False),
        ("gt = 1000", "9999", True),
        ("gt = 1000", True, True),
        ("gt = 1000", None, True),
        ("gt = 1000", float("nan"), True),
        ('gt = "m"', "n", True),
        ("eq = 1", 1.0, True),
        ("eq = 1", True, True),
        ("eq = 1", "1", True),
        ("eq = 1", " 1.0", True),
        ("eq = 1", "one", False),
        ("eq = 1", "2", False),
        ("eq = 1", [1], True),
        ("eq = 1", None, False),
        ("eq = true", "True", True),
        ("eq = true", "yes", True),
        ("eq = true", 1, True),
        ("eq = true", "false", False),
        ("eq = true", 0, False),
        ('eq = "1"', 1, True),
        ('eq = "yes"', "on", False),
        ("ne = 1", "1", True),
        ("in = [1, 2]", "2", True),
        ("in = [1, 2]", "3", False),
        ('eq = ["5"]', [5], True),
        ('eq = ["5"]', ["6"], False),
        ('eq = ["5", 1]', [5, 2], False),
        ("eq = [1]", [True], True),
        ("ne = [1]", [True], True),
        ("ne = [1]", [1.0], False),
        ("ne = [1]", [1, 1], True),
        ("eq = { a = [1] }", {"a": ["1"]}, True),
        ("eq = { a = 1 }", {"a": 1, "b": 1}, False),
        ("in = [[1], 2]", [True], True),
        ('ne = "EUR"', "USD", True),
        ('ne = "EUR"', "EUR", False),
        ('in = ["a", 2]', 2, True),
        ('in = ["a", 2]', "b", False),
        ('matches = "^/etc/"', "/etc/passwd", True),
        ('matches = "^/etc/"', "/home", False),
        ('matches = "secret"', {"in": ["a secret"]}, True),
        ('matches = "^/etc/"', ["/home", ["/etc/passwd"]], True),
        ('matches = "^/etc/"', ["/home"], False),
        ('in = ["root"]', ["guest", "root"], True),
        ('in = ["root"]', ["guest"], False),
        ('eq = "root"', ["root"], True),
        ("eq = 5", [], False),
        ("eq = 5", ["5"], True),  # it cannot be compared
    ],
)
def test_a_rule_compares_an_argument(capture: Capture, policy: Any, text: str, amount: Any, holds: bool) -> None:
    policy(rule(text))
    reason = refused("PAY_now", {"order": {"amount": amount}})
    assert (reason is not None) is holds
    assert reason is None or reason.startswith("tool 'PAY_now' is refused by tools.rules[0]: '/order/amount' ")
    assert refused("show", {"order": {"amount": amount}}) is None


def test_arguments_are_read_alike_in_every_form(capture: Capture, policy: Any) -> None:
    policy('[[plugins.policy.tools.rules]]\ntool = "pay"\nargument = "/amount"\ngt = 10')

    @tool(name="pay")
    def pay(amount: int) -> str:
        return "paid"

    assert pay(5) == pay(amount=5) == "paid"
    for call in (lambda: pay(50), lambda: pay(amount=50)):
        with pytest.raises(GuardrailRejected, match="'/amount' gt 10"):
            call()
    assert refused("pay", '{"amount": 50}') == refused("pay", {"amount": 50})
    assert refused("pay", '{"amount": 5}') is None


@pytest.mark.parametrize("given", [{}, {"order": 7}, "no JSON", [1], {"order": [{"amount": 1}]}])
def test_what_cannot_be_judged_is_refused(capture: Capture, policy: Any, given: Any) -> None:
    policy(rule("gt = 1000"))
    assert refused("pay_now", given) == (
        "tool 'pay_now' is refused by tools.rules[0]: it is given no '/order/amount' that could be checked"
    )
    policy(rule('gt = 1000\nmissing = "pass"'))
    assert refused("pay_now", given) is None


@pytest.mark.parametrize(
    "given",
    [
        '{"order": {"amount": 1}, "order": {"amount": 5000}}',
        '{"order": {"amount": 5000}, "note": "two\nlines"}',
        '\ufeff {"order": {"amount": 5000}}',
        '{"order": {"amount": 5000}} and more',
        '"{\\"order\\": {\\"amount\\": 5000},}"',
        '{"order": {"amount": 5000}, "deep": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_json_that_nobody_can_read_is_no_argument_that_is_missing(capture: Capture, policy: Any, given: str) -> None:
    policy(rule('gt = 1000\nmissing = "pass"'))
    assert refused("pay_now", given) == (
        "tool 'pay_now' is refused by tools.rules[0]: it is given no '/order/amount' that could be checked"
    )


class Held(BaseModel):
    """Holds an amount as its JSON has it."""

    amount: int


class LeftOut(BaseModel):
    """Keeps the amount out of its JSON."""

    amount: int = Field(exclude=True)


class Renamed(BaseModel):
    """Calls the amount otherwise in its JSON."""

    model_config = ConfigDict(serialize_by_alias=True)
    amount: int = Field(alias="theAmount")


class Masked(BaseModel):
    """Shows nothing of the amount in its JSON."""

    amount: SecretStr


@pytest.mark.parametrize("order", [LeftOut(amount=5000), Renamed(theAmount=5000), Masked(amount=SecretStr("5000"))])
@pytest.mark.parametrize("missing", ["pass", "refuse"])
def test_what_a_model_keeps_out_of_its_json_is_not_taken_for_missing(
    capture: Capture, policy: Any, order: Any, missing: str
) -> None:
    policy(rule(f'matches = "5000"\nmissing = "{missing}"'))
    assert refused("pay_now", {"order": order}) == (
        "tool 'pay_now' is refused by tools.rules[0]: it is given no '/order/amount' that could be checked"
    )
    assert refused("pay_now", {"order": Held(amount=1)}) is None


@pytest.mark.parametrize("order", [Masked(amount=SecretStr("5000")), [LeftOut(amount=5000)]])
def test_a_rule_about_a_whole_model_refuses_what_its_json_hides(capture: Capture, policy: Any, order: Any) -> None:
    policy('[[plugins.policy.tools.rules]]\ntool = "pay_*"\nargument = "/order"\nmatches = "5000"')
    assert "could be checked" in str(refused("pay_now", {"order": order}))
    assert refused("pay_now", {"order": [Held(amount=1)]}) is None


@pytest.mark.parametrize("missing", ["pass", "refuse"])
def test_a_text_that_langchain_takes_for_an_argument_is_that_argument(
    capture: Capture, policy: Any, missing: str
) -> None:
    @langchain_tool
    def pay_now(amount: str) -> str:
        """Pay."""
        return "paid"

    policy(
        f'[[plugins.policy.tools.rules]]\ntool = "pay_*"\nargument = "/amount"\nmatches = "5"\nmissing = "{missing}"'
    )
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=capture.provider)
    try:
        assert pay_now.invoke("10") == pay_now.run("10") == asyncio.run(pay_now.ainvoke("10")) == "paid"
        for pay in (lambda: pay_now.invoke("50"), lambda: asyncio.run(pay_now.ainvoke("50"))):
            with pytest.raises(GuardrailRejected, match="'/amount' matches '5'"):
                pay()
    finally:
        instrumentor.uninstrument()


class Order(NamedTuple):
    """What JSON has no form for, and a function reads by name."""

    amount: int


class Where:
    """A path of a class of the application's."""

    def __fspath__(self) -> str:
        return "/etc/passwd"


@pytest.mark.parametrize("path", [PurePosixPath("/etc/passwd"), Where(), b"/etc/passwd"])
def test_a_path_is_compared_as_the_text_that_it_stands_for(capture: Capture, policy: Any, path: Any) -> None:
    policy('[[plugins.policy.tools.rules]]\ntool = "read"\nargument = "/path"\nmatches = "^/etc/"')
    assert str(refused("read", {"path": path})).endswith("'/path' matches '^/etc/'")
    assert refused("read", {"path": PurePosixPath("/home")}) is None


@pytest.mark.parametrize("amount", [Decimal(5000), Fraction(5000), Order(5000), object(), [object()], iter([5000])])
@pytest.mark.parametrize("text", ["eq = 5000", "gt = 1000", "in = [1, 5000]", 'matches = "^9"'])
def test_an_object_that_json_has_no_form_for_cannot_be_compared(
    capture: Capture, policy: Any, amount: Any, text: str
) -> None:
    policy(rule(text))
    if isinstance(amount, (Decimal, Fraction)) and text.startswith("matches"):
        assert refused("pay_now", {"order": {"amount": amount}}) is None
    else:
        assert refused("pay_now", {"order": {"amount": amount}}) is not None
    assert refused("pay_now", {"order": {"amount": 7}, "beside": amount}) is None


@pytest.mark.parametrize("order", [Order(5000), SimpleNamespace(amount=5000), '{"amount": 5000}'])
@pytest.mark.parametrize("missing", ["refuse", "pass"])
def test_what_cannot_be_looked_into_is_not_taken_for_missing(
    capture: Capture, policy: Any, order: Any, missing: str
) -> None:
    policy(rule(f'gt = 1000\nmissing = "{missing}"'))
    assert str(refused("pay_now", {"order": order})).endswith("it is given no '/order/amount' that could be checked")
    assert refused("pay_now", SimpleNamespace(order={"amount": 5000})) is not None


def test_arguments_of_any_name_are_read_by_their_names(capture: Capture, policy: Any) -> None:
    policy('[[plugins.policy.tools.rules]]\ntool = "pay"\nargument = "/amount"\ngt = 10\nmissing = "pass"')

    @tool(name="pay")
    def pay(to: str, **more: Any) -> Any:
        return to, more

    assert pay("ann", amount=5) == ("ann", {"amount": 5})
    assert pay("ann") == ("ann", {})
    with pytest.raises(GuardrailRejected, match="'/amount' gt 10"):
        pay("ann", amount=50)

    @request_intercept(kinds=["tool"])
    def less(call: Any) -> None:
        call.request.arguments["amount"] = 1
        call.request.arguments["note"] = "less"

    with use(less):
        assert pay("ann", amount=50) == ("ann", {"amount": 1, "note": "less"})


def test_an_argument_that_is_called_like_a_parameter_stays_apart(capture: Capture, policy: Any) -> None:
    policy('[[plugins.policy.tools.rules]]\ntool = "pay"\nargument = "/more/to"\neq = "bob"\nmissing = "pass"')

    @tool(name="pay")
    def pay(to: str, /, **more: Any) -> Any:
        return to, more

    assert pay("ann", to="eve") == ("ann", {"to": "eve"})
    with pytest.raises(GuardrailRejected, match="'/more/to' eq 'bob'"):
        pay("ann", to="bob")


def test_a_number_of_any_length_is_compared(capture: Capture, policy: Any) -> None:
    policy(rule("gt = 1000"))
    assert str(refused("pay_now", '{"order": {"amount": 1' + "0" * 400 + "}}")).endswith("'/order/amount' gt 1000")


def test_a_rule_without_a_comparison_is_about_the_name_alone(capture: Capture, policy: Any) -> None:
    policy('[[plugins.policy.tools.rules]]\ntool = "pay_*"')
    assert refused("pay_now", {}) == "tool 'pay_now' is refused by tools.rules[0]"


def test_each_rule_may_be_on_trial(capture: Capture, policy: Any) -> None:
    take_report()
    policy(rule('gt = 1000\nmode = "observe"') + "\n" + rule("gt = 5000"))
    assert refused("pay_now", {"order": {"amount": 2000}}) is None
    assert take_report() == "policy on trial would have refused 1 call"
    assert "tools.rules[1]" in str(refused("pay_now", {"order": {"amount": 9000}}))


def test_a_refused_tool_answers_with_the_reason_of_its_rule(capture: Capture, policy: Any) -> None:
    policy('tools.refused = "answer"\n' + rule("gt = 1000"))
    assert "'/order/amount' gt 1000" in run_tool("pay_now", lambda order: "ran", {"order": {"amount": 2000}})


def test_all_that_is_wrong_with_rules_is_told_at_once(capture: Capture, policy: Any) -> None:
    rules = ["argument = 'amount'\ngt = [1]", "matches = '(?=x)'\nargument = ''", "argument = '/a'", "gte = 1"]
    with pytest.raises(ConfigurationError) as error:
        policy("\n".join(f"[[plugins.policy.tools.rules]]\ntool = 'x'\n{each}" for each in rules[:3]))
    for told in (
        "tools.rules[0].argument: cannot be used: 'amount' is not a JSON pointer",
        "tools.rules[0].gt: cannot be ordered; write a number or a string",
        "tools.rules[1].matches: cannot be used: RE2 cannot run it",
        "tools.rules[2]: names an argument but does not compare it with anything; write one of eq,",
    ):
        assert told in str(error.value)
    with pytest.raises(ConfigurationError, match=r"tools.rules\[0\].gte: is not known; did you mean 'g[et]'"):
        policy(f"[[plugins.policy.tools.rules]]\ntool = 'x'\n{rules[3]}")


def test_a_pattern_needs_its_engine(capture: Capture, policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(ConfigurationError, match=r"tools.rules\[0\].matches: .* pip install 'spanrelay\[pii\]'"):
        policy(rule('matches = "x"'))
