"""A call whose real work is done elsewhere: in the CLI, or by whoever reads its messages.

Policy runs around it in a task of its own, which holds no context of anybody else's and ends with the call.
"""

from __future__ import annotations

from typing import Any

import anyio
from opentelemetry.context import Context, attach, detach

from spanrelay.errors import MiddlewareError
from spanrelay.pipeline.driver import arun
from spanrelay.pipeline.function import FunctionCall


class Errand:
    """The boundary of such a call: `begin` lets policy decide, `tell` says what came of it.

    Make one within a running event loop.
    """

    def __init__(self) -> None:
        self.outgoing: Any = None
        """What is to be done, as policy left it."""
        self.result: Any = None
        """What came of it, as policy left it; or what policy answered instead."""
        self.error: BaseException | None = None
        """What was raised instead: by policy, or as it was told."""
        self._sent = False
        self._decided = anyio.Event()
        self._told = anyio.Event()
        self._over = anyio.Event()
        self._value: Any = None
        self._raised: BaseException | None = None

    @property
    def sent(self) -> bool:
        """Whether policy let it pass."""
        return self._sent

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over.is_set()

    async def begin(self, call: FunctionCall, context: Context) -> None:
        """Open `call` below `context` and wait until policy has let it pass, refused it or answered for it."""
        # Imported here: the SDK knows which library of tasks is running, and is imported itself by now.
        from claude_agent_sdk._internal._task_compat import spawn_detached

        token = attach(context)
        try:
            task = spawn_detached(self._run(call))
        finally:
            detach(token)
        task.add_done_callback(lambda _: self._done())
        try:
            await self._decided.wait()
        except BaseException:
            task.cancel()
            raise

    async def decided(self) -> None:
        """Wait until policy has decided."""
        await self._decided.wait()

    async def ended(self) -> None:
        """Wait until policy is through with what came of it."""
        await self._over.wait()

    def tell(self, value: Any, error: BaseException | None = None) -> None:
        """Say what came of it, or what was raised instead; what is told first counts."""
        if not self._told.is_set():
            self._value, self._raised = value, error
            self._told.set()

    async def _run(self, call: FunctionCall) -> None:
        try:
            self.result = await arun(call)
        except Exception as error:
            self.error = error
        except BaseException as error:
            self.error = error
            if error is not self._raised:
                raise
        finally:
            self._done()

    def _done(self) -> None:
        # A task that is cancelled before its first step never comes to its end.
        self._decided.set()
        self._over.set()

    async def send(self, call: FunctionCall) -> Any:
        """The real call, as the pipeline sees it."""
        if self._sent:
            raise MiddlewareError(
                f"{call.record.name!r} is done once by the CLI of the Claude Agent SDK: an execution intercept cannot "
                "send it again"
            )
        self.outgoing = call.outgoing()
        call.begin(self.outgoing)
        self._sent = True
        self._decided.set()
        await self._told.wait()
        if self._raised is not None:
            raise self._raised
        call.gave(self._value)
        return self._value

    async def answer(self, call: FunctionCall, body: Any) -> Any:
        """Policy's own answer."""
        call.gave(body)
        return body
