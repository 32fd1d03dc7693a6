"""A plugin for SpanRelay: tools that change something need the number of a change ticket among their arguments."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import Any

from spanrelay import guardrail
from spanrelay.plugins import Context, Diagnostic


@dataclass
class ChangeTicketConfig:
    """The keys of `[plugins.change_ticket]`."""

    tools: list[str]
    """Glob patterns of the tools that need a ticket."""
    argument: str = "ticket"
    pattern: str = r"CHG-\d+"
    audit_file: str | None = None
    """Where refused calls are written down, one a line."""
    free_users: list[str] = field(default_factory=list)
    """Users who need no ticket."""


class ChangeTicketPlugin:
    """Refuses tools that change something unless they are given the number of a change ticket."""

    name = "change_ticket"
    config_model = ChangeTicketConfig

    def validate(self, config: ChangeTicketConfig) -> list[Diagnostic]:
        """Types and unknown keys have been checked; this finds what only the plugin can know."""
        try:
            re.compile(config.pattern)
        except re.error as error:
            return [Diagnostic(f"is not a regular expression: {error}", "mend it", "pattern")]
        if not config.tools:
            return [Diagnostic("is empty, so no tool needs a ticket", "name some tools", "tools", "warning")]
        return []

    def register(self, context: Context) -> None:
        """Put the guardrail in force; whatever is registered or opened here is taken back when something fails."""
        config: ChangeTicketConfig = context.config
        audit = None
        if config.audit_file is not None:
            audit = open(config.audit_file, "a", encoding="utf-8")  # noqa: SIM115 - closed with the plugin
            context.on_close(audit.close)

        @guardrail(name="ticket", kinds=["tool"])
        def needs_ticket(call: Any) -> str | None:
            reason = refusal(config, call.request.name, call.request.arguments, call.record.user_id)
            if reason is not None and audit is not None:
                print(reason, file=audit, flush=True)
            return reason

        context.use(needs_ticket)


def refusal(config: ChangeTicketConfig, tool: str, arguments: Any, user: str | None) -> str | None:
    """Return why a tool may not run, or None."""
    if user in config.free_users or not any(fnmatch.fnmatchcase(tool, pattern) for pattern in config.tools):
        return None
    ticket = arguments.get(config.argument) if isinstance(arguments, dict) else None
    if isinstance(ticket, str) and re.fullmatch(config.pattern, ticket):
        return None
    return f"{tool} needs the number of a change ticket as {config.argument!r}"
