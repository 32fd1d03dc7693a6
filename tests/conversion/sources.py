"""Who recorded the captures that tests convert: the stack, its versions, and the dialect it speaks."""

from __future__ import annotations

_VERCEL = "ai 7.0.173, @ai-sdk/otel 1.0.173"
_OTEL_NODE = "openai 6.49, @opentelemetry/instrumentation-openai 0.22.0"
_OI_NODE = "openai 6.49, @arizeai/openinference-instrumentation-openai 4.2.7"
_OI_LANGCHAIN = "langchain 1.5.14, @arizeai/openinference-instrumentation-langchain 4.1.1"
_OI_AGENTS = "@openai/agents 0.20.0, @arizeai/openinference-instrumentation-openai-agents 0.2.15"
_TRACELOOP = "@traceloop/node-server-sdk 0.27.0"
_GENKIT_JS, _GENKIT_GO = "genkit 1.42.0", "firebase/genkit/go 1.4.0"
_RIG = "rig 0.44.0, tracing-opentelemetry 0.34.0"
_SPRING = "Spring AI 2.0.1 on Spring Boot 4.0.7"

CAPTURES: dict[str, tuple[str, str, str]] = {
    "vercel_ai_generate": ("Vercel AI SDK (Node)", _VERCEL, "GenAI"),
    "vercel_ai_legacy_generate": ("Vercel AI SDK, legacy spans (Node)", _VERCEL, "`ai.*`"),
    "node_otel_openai_chat": ("OpenAI, chat (Node)", _OTEL_NODE, "GenAI, content in log records of 1.36 and before"),
    "node_otel_openai_responses": ("OpenAI, Responses (Node)", _OTEL_NODE, "GenAI, content in log records"),
    "node_openinference_openai_chat": ("OpenAI, chat (Node)", _OI_NODE, "OpenInference"),
    "node_openinference_openai_responses": ("OpenAI, Responses (Node)", _OI_NODE, "OpenInference"),
    "node_openinference_openai_stream": ("OpenAI, chat streamed (Node)", _OI_NODE, "OpenInference"),
    "node_openinference_langchain": ("LangChain.js (Node)", _OI_LANGCHAIN, "OpenInference"),
    "node_openinference_langchain_stream": ("LangChain.js, streamed (Node)", _OI_LANGCHAIN, "OpenInference"),
    "openai_agents_js_openinference": ("OpenAI Agents SDK (Node)", _OI_AGENTS, "OpenInference"),
    "openai_agents_js_openinference_stream": ("OpenAI Agents SDK, streamed (Node)", _OI_AGENTS, "OpenInference"),
    "traceloop_node": ("OpenAI by Traceloop (Node)", _TRACELOOP, "GenAI and Traceloop"),
    "traceloop_node_stream": ("OpenAI by Traceloop, streamed (Node)", _TRACELOOP, "GenAI and Traceloop"),
    "mastra": ("Mastra (Node)", "@mastra/core 1.71.0, otel-exporter 1.4.0", "GenAI and `mastra.*`"),
    "genkit_js": ("Genkit (Node)", _GENKIT_JS, "`genkit:*`"),
    "genkit_js_tool_error": ("Genkit, a tool that raises (Node)", _GENKIT_JS, "`genkit:*`"),
    "genkit_go": ("Genkit (Go)", _GENKIT_GO, "`genkit:*`"),
    "genkit_go_stream": ("Genkit, streamed (Go)", _GENKIT_GO, "`genkit:*`"),
    "genkit_go_tool_error": ("Genkit, a tool that raises (Go)", _GENKIT_GO, "`genkit:*`"),
    "rig": ("rig (Rust)", _RIG, "GenAI"),
    "rig_json": ("rig, exported as JSON (Rust)", _RIG, "GenAI"),
    "spring_ai": ("Spring AI (Java)", _SPRING, "GenAI and `spring.ai.*`"),
    "spring_ai_stream": ("Spring AI, streamed (Java)", _SPRING, "GenAI and `spring.ai.*`"),
    "spring_ai_content_logs": (
        "Spring AI that logs its content (Java)",
        _SPRING,
        "GenAI and `spring.ai.*`, texts in logs",
    ),
    "quarkus_langchain4j": ("LangChain4j by Quarkus (Java)", "quarkus-langchain4j-openai 1.10.0", "GenAI of its own"),
}
"""The captures of one conversation in `spans-polyglot`."""

AGENTS: dict[str, tuple[str, str]] = {
    "claude": ("Claude Code", "2.1.332"),
    "codex": ("Codex CLI", "0.171.0"),
    "gemini": ("Gemini CLI", "0.61.0"),
    "qwen": ("Qwen Code", "0.24.4"),
    "opencode": ("opencode", "1.18.33"),
    "copilot": ("GitHub Copilot CLI", "1.0.102"),
}
"""The coding agents in `cli-captures`."""
