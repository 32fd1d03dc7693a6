"""What the conformance kit of AGENT-HOOKS-0.1 runs: a program under SpanRelay, whose calls the host asks about.

The agent is a decorated function, its model is asked by OpenAI's SDK over HTTP, and its tools run by `run_tool`.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, get_args

import openai
from agent_hooks import CompositionConfig, EnforcementMode, IdentityProvider, InterceptionEmitter
from agent_hooks.ctk.harness import Capability, RunOutcome, RunRecord, Scenario
from agent_hooks.ctk.scripted import redact_paths

import spanrelay
from spanrelay import GuardrailRejected
from spanrelay.plugins.agent_hooks.host import Host
from spanrelay.plugins.agent_hooks.plugin import Point
from spanrelay.plugins.plugin import Context
from spanrelay_openai import OpenAIInstrumentor
from spanrelay_testkit.exchange import Reply, ToolCall
from spanrelay_testkit.model_server import ModelServer, in_order


def _fault(context: Any) -> str:
    raise RuntimeError("a provider of identities that breaks")


class Harness:
    """Runs one scenario of the kit."""

    name = "spanrelay"
    capabilities: ClassVar[set[Capability]] = {
        Capability.MODEL_CALLS,
        Capability.TOOL_CALLS,
        Capability.INT64_JSON,
    }
    tool_seam_host_error = "continue"

    def setup(
        self,
        scenario: Scenario,
        interceptors: list[Any],
        resolver: Any,
        mode: EnforcementMode,
        composition: CompositionConfig | None = None,
        identity_provider: str | None = "jcs-sha256",
        redact_for_approval: list[str] | None = None,
    ) -> None:
        provider: Any = IdentityProvider("ctk-fault", _fault) if identity_provider == "ctk-fault" else identity_provider
        self._emitter = InterceptionEmitter(
            mode=mode, resolver=resolver, composition=composition, identity_provider=provider
        )
        if redact_for_approval:
            self._emitter.set_approval_redactor(lambda context: redact_paths(context, redact_for_approval))
        for each in interceptors:
            self._emitter.register(each)
        self._scenario = scenario
        self._ran: list[dict[str, Any]] = []
        self._context = Context(None, "agent_hooks")
        for entry in Host(self._emitter, get_args(Point), "agent_hooks", set(), 30).middleware():
            self._context.use(entry)
        self._instrumentor = OpenAIInstrumentor()
        self._instrumentor.instrument()

    async def run(self) -> RunRecord:
        script = [
            Reply(
                text=answer.content,
                tool_calls=[ToolCall(call["name"], call["args"], call["id"]) for call in answer.tool_calls],
            )
            for answer in self._scenario.model_script
        ]
        outcome, final = RunOutcome.COMPLETED, None
        with ModelServer(in_order(script)) as server:
            async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
                try:
                    final = await self._agent(client)(self._scenario.input["content"])
                except GuardrailRejected:
                    outcome = RunOutcome.BLOCKED
        records = self._emitter.results
        return RunRecord(
            outcome=outcome,
            final_output=final,
            tool_invocations=self._ran,
            identities=[(record.input_identity, record.enforced_identity) for record in records],
            records=[record.to_wire() for record in records],
        )

    def teardown(self) -> None:
        self._context.close()
        self._instrumentor.uninstrument()

    def _agent(self, client: openai.AsyncOpenAI) -> Any:
        @spanrelay.agent(name="clerk", session="s-1")
        async def clerk(said: Any) -> Any:
            messages: list[Any] = [{"role": "user", "content": said}]
            while True:
                answer = await client.chat.completions.create(model="gpt-5", messages=messages)
                message = answer.choices[0].message
                if not message.tool_calls:
                    return message.content
                messages.append(message.model_dump(exclude_none=True))
                for call in message.tool_calls:
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": self._result_of(call)})

        return clerk

    def _result_of(self, call: Any) -> str:
        name = call.function.name

        def run(**arguments: Any) -> Any:
            self._ran.append({"name": name, "args": arguments})
            return self._scenario.tools[name].invoke(arguments)[0]

        try:
            return json.dumps(spanrelay.run_tool(name, run, json.loads(call.function.arguments), call_id=call.id))
        except GuardrailRejected as refusal:
            return f"blocked: {refusal.reason}"
