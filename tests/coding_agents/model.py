"""The model that coding agents ask in tests: what it says to which task, with which tools, and what that uses.

The scenarios are those of the recorded captures, so that a run here can be held against what the wire said there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from spanrelay_testkit.exchange import Answer, Request, ToolCall, error, error_body, reply, texts_of, tool_call


class Round(NamedTuple):
    """One answer: words, a thought, and calls of tools as (kind, argument)."""

    text: str
    thought: str | None = None
    calls: Sequence[tuple[str, str]] = ()


class Offered(NamedTuple):
    """A tool that is offered: in Responses the group that it is of, and what it takes, where that is said."""

    group: str | None = None
    takes: Collection[str] | None = None


SCENARIOS: dict[str, list[Round]] = {
    "TASK-BASIC": [
        Round(
            "I will run the command first.",
            "The user wants three things; the shell command comes first.",
            [("shell", "echo hello-from-shell")],
        ),
        Round("Now I read the two files.", None, [("read", "notes.txt"), ("read", "missing.txt")]),
        Round("", None, [("shell", "echo oops >&2; exit 3")]),
        Round(
            "Done: the shell said hello-from-shell, notes.txt says the launch code is 4711, missing.txt does not exist "
            "and the last command failed with 3."
        ),
    ],
    "TASK-SUB": [
        Round(
            "I will hand this to a helper.",
            None,
            [("agent", "TASK-CHILD: read notes.txt and report the launch code.")],
        ),
        Round("The helper reports: the launch code is 4711."),
    ],
    "TASK-CHILD": [
        Round("The helper reads the file.", None, [("read", "notes.txt")]),
        Round("The launch code is 4711."),
    ],
    "TASK-POLICY": [
        Round("First try.", None, [("shell", "echo deny-json > denied.txt")]),
        Round("Second try.", None, [("shell", "echo rewrite-me > rewritten.txt")]),
        Round("Two commands were asked for."),
    ],
    "TASK-DENIED": [
        Round("I will try to write a file.", None, [("shell", "rm -rf build && touch built")]),
        Round("I was not allowed to do that."),
    ],
    "TASK-OVERLOAD": [
        Round("I will run the command after the wait.", None, [("shell", "echo after-overload")]),
        Round("Done after one retry."),
    ],
    "TASK-SHORT": [Round("I will run it.", None, [("shell", "echo short")]), Round("Short task done.")],
    "TASK-AGAIN": [
        Round("I will look once more.", None, [("shell", "echo second-turn")]),
        Round("The second turn is done."),
    ],
}


class Model:
    """Answers by the last task that a user names, and by how many rounds of tools have come back since."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._overloaded = False

    def __call__(self, request: Request) -> Answer:
        """Answer a request of whichever API."""
        if request.path.endswith("/count_tokens"):
            return error(404, error_body("no tokens are counted here"))
        tools = dict(_tools(request))
        said = list(_said(request))
        task, number = _place(said)
        if task is None or not tools:
            return reply("A title", usage=_usage(request, "", 0))
        if task == "TASK-OVERLOAD" and not self._overloaded:
            self._overloaded = True
            status = 529 if request.api == "messages" else 503
            return error(status, error_body("overloaded"), headers={"retry-after": "0"})
        if task == "TASK-SUB" and number >= 1 and "wait_agent" in tools and ("call", "wait_agent") not in said:
            return reply(tool_calls=[_wait(request, tools["wait_agent"].group)], usage=_usage(request, task, number))
        rounds = SCENARIOS[task]
        now = rounds[min(number, len(rounds) - 1)]
        calls = [self._call(kind, argument, tools) for kind, argument in now.calls]
        usage = _usage(request, task, number)
        return reply(now.text or None, reasoning=now.thought, tool_calls=calls, usage=usage)

    def _call(self, kind: str, argument: str, tools: dict[str, Offered]) -> ToolCall:
        """Return a call of the tool, of those that are offered, that does something."""
        described = {"description": "Run a scripted command"}
        path = f"{self._folder}/{argument}"
        delegated = {"description": "Read the notes", "prompt": argument, "subagent_type": "general-purpose"}
        known: dict[str, list[tuple[str, dict[str, Any]]]] = {
            "shell": [
                ("Bash", {"command": argument, **described}),
                ("exec_command", {"cmd": argument}),
                ("run_shell_command", {"command": argument, **described, "is_background": False}),
                ("bash", {"command": argument, **described}),
            ],
            "read": [
                ("Read", {"file_path": path}),
                ("exec_command", {"cmd": f"cat {argument}"}),
                ("read_file", {"file_path": path}),
                ("view", {"path": path}),
                ("read", {"filePath": path}),
            ],
            "agent": [
                ("Agent", {**delegated, "run_in_background": False}),
                ("spawn_agent", {"message": argument}),
                ("task", {**delegated, "subagent_type": "general", **_COPILOT}),
            ],
        }
        name, given = next(each for each in known[kind] if each[0] in tools)
        offered = tools[name]
        if name in _SHARED and offered.takes is not None:
            given = {key: value for key, value in given.items() if key in offered.takes}
        return tool_call(name, given, namespace=offered.group)


_SHARED = ("bash", "task")
"""Tools that two agents call the same, and that take other things in each."""
_COPILOT = {"agent_type": "general-purpose", "name": "notes-reader", "mode": "sync"}
"""What a sub-agent of Copilot CLI is begun with."""


def _wait(request: Request, namespace: str | None) -> ToolCall:
    """Return the call by which Codex waits for the sub-agent that it has begun."""
    begun = re.findall(r'agent_id\\*":\\*"([0-9a-f-]{36})', json.dumps(request.get("input")))
    return tool_call("wait_agent", {"targets": begun[:1], "timeout_ms": 20000}, namespace=namespace)


def _tools(request: Request) -> Iterator[tuple[str, Offered]]:
    """Yield the tools that are offered, by name."""
    for tool in request.get("tools", []):
        yield from ((each["name"], Offered()) for each in tool.get("functionDeclarations", []))
        if "function" in tool:
            function = tool["function"]
            yield function["name"], Offered(takes=function.get("parameters", {}).get("properties", {}))
        elif tool.get("type") == "namespace":
            yield from ((inner["name"], Offered(tool["name"])) for inner in tool["tools"])
        elif "name" in tool:
            yield tool["name"], Offered()


def _said(request: Request) -> Iterator[tuple[str, str]]:
    """Yield who said what, results of tools among it."""
    for content in request.get("contents", []):
        parts = content["parts"]
        answers = any("functionResponse" in part for part in parts)
        yield "tool" if answers else "assistant" if content["role"] == "model" else "user", "\n".join(texts_of(parts))
    for message in request.get("messages", []):
        content = message["content"] if isinstance(message["content"], list) else []
        if message["role"] == "tool" or any(block.get("type") == "tool_result" for block in content):
            yield "tool", ""
        else:
            yield message["role"], "\n".join(texts_of(message["content"]))
    for item in request.get("input", []):
        if item.get("type", "message") == "message":
            yield item["role"], "\n".join(texts_of(item.get("content")))
        elif item["type"] == "function_call_output":
            yield "tool", ""
        elif item["type"] == "function_call":
            yield "call", item["name"]
        elif item["type"] == "agent_message":
            yield "user", json.dumps(item)


_TASK = re.compile("|".join(SCENARIOS))


def _place(said: list[tuple[str, str]]) -> tuple[str | None, int]:
    """Return the task that was named last, and how many rounds of results have come since."""
    task, begun = None, 0
    for at, (role, text) in enumerate(said):
        if role == "user" and (named := _TASK.findall(text)):
            task, begun = named[-1], at
    roles = [role for role, _ in said[begun + 1 :]]
    return task, sum(role == "tool" and before != "tool" for before, role in zip(["", *roles], roles, strict=False))


def _usage(request: Request, task: str, number: int) -> dict[str, Any]:
    given = 1000 + 100 * number + (5000 if task == "TASK-CHILD" else 0)
    cached, written, output, thought = 400 + 10 * number, 30 + number, 40 + number, 7 if number == 0 else 0
    if request.api == "chat/completions":
        return {
            "prompt_tokens": given,
            "completion_tokens": output,
            "total_tokens": given + output,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": thought},
        }
    if request.api.endswith("Content"):
        return {
            "promptTokenCount": given,
            "cachedContentTokenCount": cached,
            "candidatesTokenCount": output,
            "thoughtsTokenCount": thought,
            "totalTokenCount": given + output + thought,
        }
    if request.api == "messages":
        return {
            "input_tokens": given - cached - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": cached,
            "output_tokens": output,
        }
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": given + output,
    }
