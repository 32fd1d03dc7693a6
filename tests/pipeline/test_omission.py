"""`without`: an application leaves out what is its own, and what a file lets it leave out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from spanrelay import ConfigurationError, GuardrailRejected, arun_tool, guardrail, run_tool, scope, use, without
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation

pytestmark = pytest.mark.usefixtures("capture")
DENIED = '[plugins.policy]\ntools.deny = ["delete_*"]\n'


@guardrail
def never(call: Any) -> str:
    return "no"


def ask(name: str = "t") -> int:
    return run_tool(name, lambda: 1)


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[..., Activation]]:
    """Puts files in force, the highest first."""
    started: list[Activation] = []

    def put(*texts: str) -> Activation:
        files: list[PolicyFile] = []
        for number, text in enumerate(texts):
            path = tmp_path / f"{number}.toml"
            path.write_text(text)
            files.append(PolicyFile(str(path), "chosen"))
        started.append(Activation(files))
        started[-1].start()
        return started[-1]

    yield put
    for each in started:
        each.close()


def test_what_is_left_out_runs_again_after_the_block() -> None:
    with use(never):
        with without("never"):
            assert ask() == 1
        with pytest.raises(GuardrailRejected):
            ask()


def test_others_are_not_left_out() -> None:
    @guardrail
    def neither(call: Any) -> str:
        return "neither"

    with use(never), use(neither), without("never"), pytest.raises(GuardrailRejected, match="neither"):
        ask()


def test_blocks_within_each_other_leave_out_what_each_names() -> None:
    @guardrail
    def neither(call: Any) -> str:
        return "neither"

    with use(never), use(neither), without("never"), without("neither"):
        assert ask() == 1


def test_calls_within_a_call_of_the_block_are_in_the_block() -> None:
    with use(never), without("never"):
        assert run_tool("outer", ask) == 1


def test_what_holds_in_a_scope_only_is_left_out_there() -> None:
    with scope("clerk") as here:
        here.use(never)
        with without("never"):
            assert ask() == 1
    with pytest.raises(ConfigurationError, match="nothing of that name"), without("never"):
        pass


async def test_tasks_inherit_the_block_and_their_siblings_do_not() -> None:
    async def one() -> int:
        return 1

    async def inside() -> int:
        async with without("never"):
            return await asyncio.create_task(arun_tool("t", one))

    with use(never):
        inner, outer = await asyncio.gather(inside(), arun_tool("t", one), return_exceptions=True)
    assert inner == 1
    assert isinstance(outer, GuardrailRejected)


async def test_one_object_serves_tasks_that_overlap() -> None:
    block, entered, leave = without("never"), asyncio.Event(), asyncio.Event()

    async def first() -> int:
        async with block:
            entered.set()
            await leave.wait()
            return ask()

    async def second() -> int:
        await entered.wait()
        async with block:
            leave.set()
        with pytest.raises(GuardrailRejected):
            ask()
        return 2

    with use(never):
        assert await asyncio.gather(first(), second()) == [1, 2]


def test_a_thread_that_is_given_the_context_is_in_the_block() -> None:
    got: list[int] = []
    with use(never), without("never"):
        context = copy_context()
        thread = threading.Thread(target=lambda: context.run(lambda: got.append(ask())))
        thread.start()
        thread.join()
    assert got == [1]


def test_an_unknown_name_is_told_with_what_there_is() -> None:
    with use(never), pytest.raises(ConfigurationError, match=r"'nevr'.*in force are 'never'"), without("nevr"):
        pass
    with pytest.raises(ConfigurationError, match="no middleware is"), without("never"):
        pass


def test_what_is_no_name_is_refused_at_once() -> None:
    for names in ((), (never,)):
        with pytest.raises(TypeError, match="names of what to leave out"):
            without(*names)  # type: ignore[arg-type]


def test_what_a_file_has_put_in_force_stays(install: Any) -> None:
    install(DENIED)
    with use(never):
        for name in ("policy", "policy.tools"):
            told = r"'policy.*cannot be left out.*`optional = true`"
            with pytest.raises(ConfigurationError, match=told), without("never", name):
                pass
        with pytest.raises(GuardrailRejected):  # nothing was left out with it
            ask()


@pytest.mark.parametrize("name", ["policy", "policy.tools"])
def test_what_its_file_says_is_optional_may_be_left_out(install: Any, name: str) -> None:
    install(DENIED + "optional = true\n")
    with without(name):
        assert ask("delete_x") == 1
    with pytest.raises(GuardrailRejected):
        ask("delete_x")


def test_a_lower_file_makes_nothing_optional_that_one_above_put_in_force(install: Any) -> None:
    install(DENIED, '[plugins.policy]\noptional = true\ntools.deny = ["drop_*"]\n')
    with pytest.raises(ConfigurationError, match="cannot be left out"), without("policy"):
        pass
    with without("policy-2"):
        assert ask("drop_x") == 1
        with pytest.raises(GuardrailRejected):
            ask("delete_x")


def test_files_that_are_read_again_within_a_block_hold_in_it(install: Any, tmp_path: Path) -> None:
    activation = install(DENIED + "optional = true\n")
    with without("policy"):
        (tmp_path / "0.toml").write_text(DENIED)
        activation.reload()
        with pytest.raises(GuardrailRejected):
            ask("delete_x")
