"""The gateway of a run: it stands between a program and its models where that is asked for, or policy needs it.

What an agent asks, its own telemetry and transcript tell already, so that here only policy holds. What any other
program asks is recorded here, beneath one span of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import NoOpTracerProvider

from spanrelay import config, runtime
from spanrelay.coding_agents.folder import Belongs
from spanrelay.errors import ConfigurationError
from spanrelay.pipeline.started import StartedScope, start_scope

if TYPE_CHECKING:
    from spanrelay.gateway import Gateway


class Between:
    """A gateway at work.

    Args:
        upstreams: The providers' base URLs, by name.
        recorded: What the run is called in its trajectory where exchanges are recorded; None where they are not.
        belongs: The session and user that its trajectory belongs to, and what else is told of it.

    Raises:
        ConfigurationError: what the gateway needs is not installed, or an upstream is not valid.
    """

    def __init__(
        self,
        upstreams: Mapping[str, str],
        *,
        recorded: str | None,
        belongs: Belongs,
    ) -> None:
        try:
            from spanrelay.gateway import new_secret, start  # an extra
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"the gateway that is needed here needs {error.name}: pip install 'spanrelay[gateway]'"
            ) from error
        self._scope: StartedScope | None = None
        if recorded is not None:
            runtime.adopt(config.load_strictly())
            self._scope = start_scope(
                recorded, "agent", session=belongs.session, user=belongs.user, metadata=belongs.metadata
            )
        context = Context() if self._scope is None else self._scope.context
        provider = NoOpTracerProvider() if self._scope is None else None
        self._names = tuple(upstreams)
        self._gateway: Gateway = start(
            secret=new_secret(), upstreams=upstreams, around=context, tracer_provider=provider
        )

    @property
    def base_urls(self) -> dict[str, str]:
        """What the program is given in place of the providers' base URLs."""
        return {name: self._gateway.base_url(name) for name in self._names}

    @property
    def traceparent(self) -> str | None:
        """The span that everything of the run is beneath, where it is recorded here."""
        if self._scope is None:
            return None
        told = self._scope.span.get_span_context()
        return f"00-{told.trace_id:032x}-{told.span_id:016x}-{told.trace_flags:02x}"

    def close(self) -> None:
        """Let what is on its way end, and have all of it written."""
        self._gateway.stop()
        if self._scope is not None:
            self._scope.end()
            runtime.flush()
