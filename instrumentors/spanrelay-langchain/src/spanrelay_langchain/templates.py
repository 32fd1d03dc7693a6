"""Prompt templates: which one a model's messages or text were made of, and what was put in for its names.

Known by the messages and the value of the text themselves, of which none is kept alive here; it is read when the call's
record is.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.records import PromptTemplate

_CHAT, _STRING = "langchain_core.prompts.chat", "langchain_core.prompts.string"
_SCALARS = (str, int, float, bool)


def patches() -> tuple[Patch, ...]:
    """Both colours of making messages, or a prompt that is a text, of a template."""
    return (
        Patch(_CHAT, "ChatPromptTemplate.format_messages", _format, required=False),
        Patch(_CHAT, "ChatPromptTemplate.aformat_messages", _aformat, required=False),
        Patch(_STRING, "StringPromptTemplate.format_prompt", _format, required=False),
        Patch(_STRING, "StringPromptTemplate.aformat_prompt", _aformat, required=False),
        Patch("langchain_core.prompt_values", "StringPromptValue.to_messages", _to_messages, required=False),
    )


def _format(wrapped: Any, template: Any, args: Any, kwargs: Any) -> Any:
    made = wrapped(*args, **kwargs)
    _note(template, kwargs, made)
    return made


async def _aformat(wrapped: Any, template: Any, args: Any, kwargs: Any) -> Any:
    made = await wrapped(*args, **kwargs)
    _note(template, kwargs, made)
    return made


def _to_messages(wrapped: Any, text: Any, args: Any, kwargs: Any) -> Any:
    """What a model is given of a text is a message that was not there before."""
    messages = wrapped(*args, **kwargs)
    with guarded("noting what a prompt was made of"):
        told = _told_of(text)
        if told is not None:
            _remember(messages[0], told)
    return messages


_made: dict[int, tuple[weakref.ref[Any], PromptTemplate]] = {}
"""By the id of a message, or of the value of a text, that was made of a template."""


def _note(template: Any, variables: Mapping[str, Any], result: Any) -> None:
    with guarded("noting what a prompt was made of"):
        made = _own_message(template, variables, result) if isinstance(result, list) else result
        if made is not None:
            known = {**template.partial_variables, **variables}
            told = {name: value for name, value in known.items() if _is_told(value)}
            _remember(made, PromptTemplate(_text_of(template), told))


def _remember(made: Any, told: PromptTemplate) -> None:
    key = id(made)
    _made[key] = weakref.ref(made, lambda _: _made.pop(key, None)), told


def _told_of(made: Any) -> PromptTemplate | None:
    found = _made.get(id(made))
    return found[1] if found is not None and found[0]() is made else None


def _own_message(template: Any, variables: Mapping[str, Any], messages: list[Any]) -> Any:
    """Return the first message that is none of those which were put in."""
    given = {id(message) for message in template.messages}
    for value in variables.values():
        if isinstance(value, (list, tuple)):
            given.update(map(id, value))
    return next((message for message in messages if id(message) not in given), None)


def _is_told(value: Any) -> bool:
    """Whether a value is put in as a text: lists of messages are messages of the request, and functions are called."""
    return isinstance(value, _SCALARS)


def _text_of(template: Any) -> str | None:
    if not hasattr(template, "messages"):
        return getattr(template, "template", None)  # one of examples has several texts, and none
    return "\n".join(text for message in template.messages for text in _texts_of(message))


def _texts_of(message: Any) -> list[str]:
    """Return the texts of one message of a template: of several parts, of one, of none that is a template."""
    if hasattr(message, "variable_name"):  # stands for messages
        return [f"{{{message.variable_name}}}"]
    prompts = getattr(message, "prompt", None)
    if prompts is None:
        content = getattr(message, "content", None)
        return [content] if isinstance(content, str) else []
    parts = prompts if isinstance(prompts, list) else [prompts]
    return [part.template for part in parts if isinstance(getattr(part, "template", None), str)]


def template_of(given: Any) -> PromptTemplate | None:
    """Return what messages, or a prompt's value, were made of, if that is known."""
    if not _made:
        return None
    messages = given if isinstance(given, list) else getattr(given, "messages", None) or [given]
    return next((told for message in messages if (told := _told_of(message)) is not None), None)
