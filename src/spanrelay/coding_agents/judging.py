"""Which tools of an agent may run: what the policy files say of each call, asked before it is made.

The call goes through the same pipeline as a tool of a Python program; the tool itself is the agent's, and so what would
run it here only notes that it may, and with which arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spanrelay import config
from spanrelay.errors import GuardrailRejected
from spanrelay.pipeline.managed import run_tool
from spanrelay.pipeline.middleware import registered_for
from spanrelay.plugins.configured import install_configured
from spanrelay.records import JSON, Kind
from spanrelay.scopes import scope


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to become of a call: it may run, unless `refusal` says why not, with `arguments` where those changed."""

    refusal: str | None = None
    arguments: JSON = None


def put_in_force() -> None:
    """Put in force what the policy files of this place say.

    Raises:
        ConfigurationError: a file is wrong; nothing is to be started then.
    """
    install_configured(config.load_strictly().config_file)


def anything_for(kind: Kind) -> bool:
    """Whether any policy looks at calls of a kind, be it on trial."""
    return bool(registered_for(kind))


def holds_for(kind: Kind) -> bool:
    """Whether policy that is not on trial judges calls of a kind."""
    return any(not entry.on_trial for entry in registered_for(kind))


_OF_TOOLS = ("policy.unseen_", "policy.offered_tools")
"""Policy of requests of models that only looks for tools, which hooks have checked before they ran."""


def holds_for_models() -> bool:
    """Whether policy that is not on trial is about what is asked of models."""
    found = [entry for entry in registered_for("llm") if not entry.on_trial]
    return any(not entry.name.startswith(_OF_TOOLS) or entry.family == "guardrail" for entry in found)


class _MayRun:
    """Stands for the tool: notes that policy lets it run, and what it would be given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def __call__(self, /, **arguments: Any) -> str:
        self.given.append(arguments)
        return ""


def judged(
    name: str, arguments: Mapping[str, Any], *, agent: str, call_id: str | None, session: str | None, user: str | None
) -> Verdict:
    """Return what policy says of a tool's call. Whatever breaks refuses it."""
    tool = _MayRun()
    try:
        with scope(agent, session=session, user=user):
            answer = run_tool(name, tool, dict(arguments), call_id=call_id)
    except GuardrailRejected as refused:
        return Verdict(refused.reason or f"{name} is refused by policy")
    except Exception as error:
        return Verdict(f"policy could not check {name}: {error}")
    if not tool.given:
        return Verdict(answer if isinstance(answer, str) and answer else f"{name} is refused by policy")
    return Verdict(arguments=tool.given[-1]) if tool.given[-1] != arguments else Verdict()
