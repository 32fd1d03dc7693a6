"""As `lacks`, for the captures of Java, Go and Rust, and of frameworks that name things their own way."""

from __future__ import annotations

APART = frozenset(("genkit_go_stream", "genkit_go_tool_error", "genkit_js_tool_error"))
"""Captures of another conversation: `test_polyglot_frameworks.py` says of which."""

LACKS: dict[tuple[str, str], str] = {
    ("genkit_go", "error text"): "the program gives the error's text, with `Error: ` before it, as a result",
    ("genkit_go", "failed"): "the program gives the error's text, with `Error: ` before it, as a result",
    ("genkit_go", "session"): "not recorded",
    ("genkit_js", "error text"): "the program gives the error's text, with `Error: ` before it, as a result",
    ("genkit_js", "failed"): "the program gives the error's text, with `Error: ` before it, as a result",
    ("genkit_js", "session"): "not recorded",
    ("genkit_js_stream", "error text"): "the program gives the error's text, with `Error: ` before it, as a result",
    ("genkit_js_stream", "failed"): "the program gives the error's text, with `Error: ` before it, as a result",
    ("genkit_js_stream", "session"): "not recorded",
    ("quarkus_langchain4j", "cached"): "not recorded",
    ("quarkus_langchain4j", "reasoning tokens"): "not recorded",
    ("quarkus_langchain4j", "session"): "the memory's id is not recorded",
    ("quarkus_langchain4j", "tools"): "definitions are not recorded",
    ("spring_ai", "failed"): "a tool that raises is a success with the error's text as its result",
    ("spring_ai", "reasoning tokens"): "not recorded",
    ("spring_ai", "words"): "spans have no messages, and the program does not log them",
    ("spring_ai_content_logs", "failed"): "a tool that raises is a success with the error's text as its result",
    ("spring_ai_content_logs", "reasoning tokens"): "not recorded",
    ("spring_ai_stream", "cached"): "not recorded of streams",
    ("spring_ai_stream", "failed"): "a tool that raises is a success with the error's text as its result",
    ("spring_ai_stream", "reasoning tokens"): "not recorded",
    ("spring_ai_stream", "words"): "spans have no messages, and the program does not log them",
}
