"""What Gemini CLI, and what was made of it, writes of a conversation: contents of Gemini's API, as JSON.

A call of a tool has one id in the answer, `name__id`, and another in what the model is sent later, `id`: here it has
the latter everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice, zip_longest
from typing import Any

from spanrelay.codecs import gemini_generate_content
from spanrelay.codecs.gemini_generate_content.messages import read_content, read_part
from spanrelay.codecs.narrowing import as_list, as_mapping
from spanrelay.records import Message, ModelResponse, Part, Text, ToolCall, ToolCallResponse
from spanrelay.semconv.values import decode


def message_of(content: object) -> Message:
    """Return the message that a content is."""
    return _with_own_ids(read_content(content))


class Histories:
    """The contents of requests, of which each repeats those before: what is repeated is read and held once."""

    def __init__(self, read: Callable[[object], Message] = message_of) -> None:
        self._read = read
        self._last: dict[str, tuple[list[Any], list[Message]]] = {}

    def messages_of(self, line: str, contents: object) -> list[Message]:
        """Return the messages of the next request of a conversation, whose key is `line`, given as JSON or its text."""
        items = as_list(decode(contents))
        before = zip(*self._last.get(line, ([], [])), strict=True)
        found: list[Message] = []
        for item, known in zip_longest(items, islice(before, len(items))):
            found.append(known[1] if known is not None and known[0] == item else self._read(item))
        self._last[line] = items, found
        return found


def answer_of(chunks: Iterable[Any], prompt: str = "") -> ModelResponse:
    """Return the answer whose pieces are `chunks`, the bodies of a stream.

    A call without an id is run under that of the `prompt`, with its number behind.
    """
    whole = gemini_generate_content.accumulator()
    for chunk in map(as_mapping, chunks):
        whole.add(chunk)
    response = gemini_generate_content.decode_response(whole.result())
    for message in map(_with_own_ids, response.messages):
        for number, call in enumerate(message.tool_calls):
            call.id = call.id or (f"{prompt}-{number}" if prompt else None)
    return response


def pieces_of(contents: object) -> list[dict[str, Any]]:
    """Return the contents of an answer, given as JSON or its text, as the bodies of the stream that they came in."""
    return [{"candidates": [{"content": content}]} for content in as_list(decode(contents))]


def results_of(parts: object) -> list[ToolCallResponse]:
    """Return the results of tools among the parts of a content."""
    message = _with_own_ids(Message("tool", [read_part(part) for part in as_list(parts)]))
    return [part for part in message.parts if isinstance(part, ToolCallResponse)]


def own_id(given: str | None, name: str | None) -> str | None:
    """Return the id that a call has in what the model is sent later."""
    return given.removeprefix(f"{name}__") if given and name else given


_SHELL = "run_shell_command"
_EXIT_CODE = re.compile(r"^Exit Code: (\d+)$", re.MULTILINE)


def exit_code_in(tool: str, result: object) -> int | None:
    """Return the exit code that a command's result tells among its text."""
    found = _EXIT_CODE.search(result) if tool == _SHELL and isinstance(result, str) else None
    return int(found[1]) if found else None


def set_context_apart(messages: list[Message], count: int = 1) -> list[Message]:
    """Return messages with what the program has put before the first question as the program's, not the user's.

    It is the first `count` texts of the content that the question stands in.
    """
    if not messages or messages[0].role != "user":
        return messages
    parts = messages[0].parts
    if len(parts) <= count or not all(isinstance(part, Text) for part in parts[:count]):
        return messages
    context = [Message("system", parts[:count])] if count else []
    return [*context, Message("user", parts[count:]), *messages[1:]]


def without_repeats(messages: list[Message]) -> list[Message]:
    """Return messages with each result of a tool once: Gemini CLI sends those of a session that it resumes twice."""
    seen: set[str] = set()
    found: list[Message] = []
    for message in messages:
        parts = [part for part in message.parts if not _is_again(part, seen)]
        if parts or not message.parts:
            found.append(message if len(parts) == len(message.parts) else Message(message.role, parts))
    return found


def _is_again(part: Part, seen: set[str]) -> bool:
    """Whether a part is the result of a call that has one already; note that it has."""
    if not isinstance(part, ToolCallResponse) or part.id is None:
        return False
    again = part.id in seen
    seen.add(part.id)
    return again


def _with_own_ids(message: Message) -> Message:
    part: Part
    for part in message.parts:
        if isinstance(part, (ToolCall, ToolCallResponse)):
            part.id = own_id(part.id, part.name)
    return message
