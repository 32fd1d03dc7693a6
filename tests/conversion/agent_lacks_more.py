"""What the sources of Gemini CLI, Qwen Code, opencode and Copilot CLI lack, or have otherwise than the wire, and why.

By agent, scenario and source: the aspects (those of `expected.ASPECTS`), each with the reason. A test fails where
something that stands here is no longer lacking.
"""

from __future__ import annotations

_GEMINI_LOGS = {
    "agent": "the version is nowhere: `service.version` is that of Node",
    "reasoning": "a thought has the model's heading before it",
}
_GEMINI_SPANS = {
    "agent": _GEMINI_LOGS["agent"],
    "tokens": "spans leave out tokens of thoughts and those from the cache; only log records have them",
    "token_details": "spans leave out tokens of thoughts",
}

LACKS: dict[tuple[str, str, str], dict[str, str]] = {
    ("gemini", "basic", "full"): _GEMINI_LOGS,
    ("gemini", "basic", "default"): _GEMINI_LOGS,
    ("gemini", "overload", "otlp"): _GEMINI_SPANS,
    ("gemini", "policy", "otlp"): _GEMINI_SPANS,
    ("gemini", "subagent", "otlp"): _GEMINI_SPANS
    | {
        "calls": "a sub-agent's calls have no ids on the wire; the program gives them ids of its own, which are here",
        "arguments": "those of calls that have no ids on the wire",
    },
    ("qwen", "subagent", "otlp"): {"results": "a long text of the program is a placeholder in the capture"},
    ("copilot", "basic", "full"): {
        "results": "of a failed call only a short form of its error is recorded, also in the next request",
    },
    ("copilot", "basic", "default"): {
        "order": "without content nobody can tell that a user asked",
        "questions": "content is recorded only where that was asked for",
        "words": "content is recorded only where that was asked for",
        "reasoning": "content is recorded only where that was asked for",
        "arguments": "content is recorded only where that was asked for",
        "results": "content is recorded only where that was asked for",
    },
    ("copilot", "overload", "otlp"): {"attempts": "a failed request is there, but not its status"},
    ("copilot", "policy", "otlp"): {
        "arguments": "a hook changed them after the answer, which is told as the model gave it",
        "exit_codes": "the one of a hook that refused is in words only; no command ran",
    },
    ("copilot", "subagent", "otlp"): {"subagents": "the id of a sub-agent is nowhere"},
}
