# ruff: noqa: D102 - the name of a test is its sentence
"""An answer that is given again is the answer that came, in every form that an SDK has for one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from spanrelay.pipeline.middleware import request_intercept, use
from spanrelay.plugins.plugin import Context
from spanrelay.plugins.response_cache import ResponseCacheConfig, ResponseCachePlugin
from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture
from spanrelay_testkit.contract.subject import Subject
from spanrelay_testkit.half import Form, Half


class CacheContract(Subject):
    """What the plugin `response_cache` answers; for instrumentors of the APIs that it knows."""

    def make_cacheable(self, call: Any) -> None:
        """Change a request that the provider would keep, as a request intercept does."""

    async def test_the_same_request_is_answered_again_in_every_form(
        self, half: Half, form: Form, capture: Capture
    ) -> None:
        async with self.talking(half) as (server, client):
            bare = await form(half, client, self.question("hi"))
            with self.instrumenting(capture), answering_again(), use(request_intercept(self.make_cacheable)):
                first, second = [await form(half, client, self.question("hi")) for _ in range(2)]
        assert first == second == bare
        sent, again = capture.spans
        decisions = [(span.attributes or {}).get(names.RESPONSE_CACHE_DECISION) for span in (sent, again)]
        assert (decisions, len(server.requests)) == (["miss", "hit"], 2), dict(sent.attributes or {})
        assert self.said(again) == self.said(sent)
        assert not [key for key in again.attributes or {} if ".usage." in key]


@contextmanager
def answering_again(**config: Any) -> Generator[None]:
    """Have the plugin `response_cache` in force, for all requests that say what their answers depend on."""
    given: dict[str, Any] = {"namespace": "contract", "mode": "apply", "nondeterministic": True, **config}
    context = Context(ResponseCacheConfig(**given), "response_cache")
    ResponseCachePlugin().register(context)
    try:
        yield
    finally:
        context.close()
