"""What the sources of Claude Code and Codex lack, or have otherwise than the wire, and why.

By agent, scenario and source: the aspects (those of `expected.ASPECTS`), each with the reason. A test fails where
something that stands here is no longer lacking.
"""

from __future__ import annotations

_THOUGHTS = {"reasoning": "no telemetry has what the model thought"}
_FILES = "telemetry has the content of a file that was read, and the model is shown its lines with numbers"
_REFUSALS = "of a refused call telemetry has no result"
_CLAUDE_REDACTED = "redacted unless OTEL_LOG_USER_PROMPTS or OTEL_LOG_TOOL_DETAILS is set"
_COMMENTARY = {"words": "telemetry has the last words of a turn alone, and none of what is said between tools"}
_CODEX_REDACTED = "redacted unless log_user_prompt or log_agent_responses is set"

LACKS: dict[tuple[str, str, str], dict[str, str]] = {
    ("claude", "basic", "full"): {
        **_THOUGHTS,
        "results": f"{_FILES}; of a failed command it has the kind of the failure alone",
        "exit_codes": "of a failed command telemetry has the kind of the failure alone",
    },
    ("claude", "basic", "default"): {
        **_THOUGHTS,
        "order": "a prompt without words is no step",
        "questions": _CLAUDE_REDACTED,
        "words": _CLAUDE_REDACTED,
        "arguments": _CLAUDE_REDACTED,
        "results": "only the sizes of results are told",
        "exit_codes": "only the sizes of results are told",
    },
    ("claude", "detailed", "otlp"): _THOUGHTS,
    ("claude", "subagent", "otlp"): {"results": f"{_FILES}; of a sub-agent it has no result"},
    ("claude", "background", "otlp"): {
        "results": f"{_FILES}; of a sub-agent it has no result",
        "order": "the capture has left out the words by which a notification is told from a user's prompt",
    },
    ("claude", "policy", "otlp"): {"results": _REFUSALS},
    ("claude", "denied", "otlp"): {"results": _REFUSALS},
    ("claude", "overload", "otlp"): {
        "attempts": "a span says that there were two attempts, and not what became of one"
    },
    ("codex", "basic", "full"): {**_THOUGHTS, **_COMMENTARY},
    ("codex", "basic", "default"): {
        **_THOUGHTS,
        "order": "a prompt without words is no step",
        "questions": _CODEX_REDACTED,
        "words": _CODEX_REDACTED,
    },
    ("codex", "subagent", "otlp"): _COMMENTARY,
    ("codex", "overload", "otlp"): _COMMENTARY,
    ("codex", "overload", "session"): {"attempts": "the rollout has no requests that came to nothing"},
    ("codex", "policy", "otlp"): {
        **_COMMENTARY,
        "arguments": "of a refused call telemetry has none, and of a changed one those that the tool got",
        "results": _REFUSALS,
    },
}
