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
_GEMINI_FILES = {"agent": "the version is nowhere"}
_GEMINI_REWRITTEN = {"arguments": "a hook changed them after the answer, and the chat file has what it made of them"}
_GEMINI_SUB_AGENTS = {
    "calls": "a sub-agent's calls have no ids on the wire; the program gives them ids of its own, which are here",
    "arguments": "those of calls that have no ids on the wire",
}
_NO_CONTENT = "content is recorded only where that was asked for"
_LOST = "the spans of the last calls were lost at exit"
_OPENCODE_LOST = {
    "order": _LOST,
    "words": _LOST,
    "calls": _LOST,
    "arguments": _LOST,
    "results": _LOST,
    "tokens": _LOST,
}

_COPILOT_FAILURES = {"results": "of a failed call the events have only a short form of its error"}
_COPILOT_REWRITTEN = {
    "arguments": "a hook changed them after the answer, which is told as the model gave it",
    "exit_codes": "the one of a hook that refused is in words only; no command ran",
}

LACKS: dict[tuple[str, str, str], dict[str, str]] = {
    ("gemini", "basic", "full"): _GEMINI_LOGS,
    ("gemini", "basic", "default"): _GEMINI_LOGS,
    ("gemini", "basic", "session"): _GEMINI_LOGS,
    ("gemini", "basic", "both"): _GEMINI_LOGS,
    ("gemini", "overload", "otlp"): _GEMINI_SPANS,
    ("gemini", "overload", "session"): _GEMINI_FILES
    | {"attempts": "the chat file has no requests that came to nothing"},
    ("gemini", "overload", "both"): _GEMINI_FILES,
    ("gemini", "policy", "otlp"): _GEMINI_SPANS,
    ("gemini", "policy", "session"): _GEMINI_FILES | _GEMINI_REWRITTEN,
    ("gemini", "policy", "both"): _GEMINI_FILES | _GEMINI_REWRITTEN,
    ("gemini", "subagent", "otlp"): _GEMINI_SPANS | _GEMINI_SUB_AGENTS,
    ("gemini", "subagent", "session"): _GEMINI_FILES | _GEMINI_SUB_AGENTS,
    ("gemini", "subagent", "both"): _GEMINI_FILES | _GEMINI_SUB_AGENTS,
    ("qwen", "overload", "session"): {"attempts": "the chat file has no requests that came to nothing"},
    ("copilot", "basic", "full"): {
        "results": "of a failed call only a short form of its error is recorded, also in the next request",
    },
    ("copilot", "basic", "default"): {
        "order": "without content nobody can tell that a user asked",
        "questions": _NO_CONTENT,
        "words": _NO_CONTENT,
        "reasoning": _NO_CONTENT,
        "arguments": _NO_CONTENT,
        "results": _NO_CONTENT,
    },
    ("copilot", "basic", "session"): _COPILOT_FAILURES,
    ("copilot", "basic", "both"): _COPILOT_FAILURES,
    ("copilot", "policy", "session"): _COPILOT_REWRITTEN,
    ("copilot", "policy", "both"): _COPILOT_REWRITTEN,
    ("copilot", "overload", "otlp"): {"attempts": "a failed request is there, but not its status"},
    ("copilot", "policy", "otlp"): _COPILOT_REWRITTEN,
    ("copilot", "subagent", "otlp"): {"subagents": "the id of a sub-agent is nowhere"},
    ("opencode", "basic", "default"): {
        "agent": "no model call has a span, where that was not asked for",
        "order": "no model call has a span, so that each run of a tool stands by itself",
        "questions": _NO_CONTENT,
        "words": _NO_CONTENT,
        "reasoning": _NO_CONTENT,
        "calls": "no model call has a span, so that each run of a tool stands by itself",
        "arguments": _NO_CONTENT,
        "results": _NO_CONTENT,
        "tokens": "no model call has a span, where that was not asked for",
        "token_details": "no model call has a span, where that was not asked for",
    },
    ("opencode", "overload", "otlp"): _OPENCODE_LOST
    | {
        "attempts": "all after the failed request was lost at exit, which stands by itself so",
        "token_details": _LOST,
    },
    ("opencode", "overload", "session"): {"attempts": "the database has no requests that came to nothing"},
    ("opencode", "overload", "both"): {"attempts": "a failed request is there, but not its status"},
    ("opencode", "policy", "otlp"): _OPENCODE_LOST,
    ("opencode", "subagent", "otlp"): _OPENCODE_LOST
    | {
        "questions": _LOST,
        "subagents": _LOST,
    },
}
