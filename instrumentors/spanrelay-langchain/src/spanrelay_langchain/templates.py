"""Chat prompt templates: which one a model's messages were made of, and what was put in for its names.

Known by the messages themselves, of which none is kept alive here; it is read when the call's record is.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from spanrelay._guard import guarded
from spanrelay.instrumentation.patching import Patch
from spanrelay.records import PromptTemplate

_MODULE = "langchain_core.prompts.chat"
_SCALARS = (str, int, float, bool)


def patches() -> tuple[Patch, ...]:
    """Both colours of making messages of a template."""
    template = "ChatPromptTemplate"
    return (
        Patch(_MODULE, f"{template}.format_messages", _format, required=False),
        Patch(_MODULE, f"{template}.aformat_messages", _aformat, required=False),
    )


def _format(wrapped: Any, template: Any, args: Any, kwargs: Any) -> Any:
    messages = wrapped(*args, **kwargs)
    _note(template, kwargs, messages)
    return messages


async def _aformat(wrapped: Any, template: Any, args: Any, kwargs: Any) -> Any:
    messages = await wrapped(*args, **kwargs)
    _note(template, kwargs, messages)
    return messages


_made: dict[int, tuple[weakref.ref[Any], PromptTemplate]] = {}
"""By the id of a message that was made of a template."""


def _note(template: Any, variables: Mapping[str, Any], messages: list[Any]) -> None:
    with guarded("noting what a prompt was made of"):
        given = {id(message) for message in template.messages}
        for value in variables.values():
            if isinstance(value, (list, tuple)):
                given.update(map(id, value))
        made = next((message for message in messages if id(message) not in given), None)
        if made is not None:
            key = id(made)
            known = {**template.partial_variables, **variables}
            told = PromptTemplate(_text_of(template), {name: value for name, value in known.items() if _is_told(value)})
            _made[key] = weakref.ref(made, lambda _: _made.pop(key, None)), told


def _is_told(value: Any) -> bool:
    """Whether a value is put in as a text: lists of messages are messages of the request, and functions are called."""
    return isinstance(value, _SCALARS)


def _text_of(template: Any) -> str:
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
    messages = given if isinstance(given, list) else getattr(given, "messages", None) or ()
    for message in messages:
        found = _made.get(id(message))
        if found is not None and found[0]() is message:
            return found[1]
    return None
