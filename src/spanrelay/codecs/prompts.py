"""Prompts of completions and inputs of embeddings: one or several, each a text or a list of tokens.

One of them is one user message; neither is ever split or joined.
"""

from __future__ import annotations

from typing import Any, cast

from spanrelay.codecs.narrowing import as_list
from spanrelay.codecs.patching import patch_sequence
from spanrelay.errors import CodecError
from spanrelay.records import Message, ModelRequest, Opaque, Part, Text


def read_prompts(value: Any, other: str) -> list[Message]:
    """Return a message for each prompt; tokens are `Opaque`, and so is what is neither, of the type `other`."""
    return [Message("user", _read(prompt, other)) for prompt in _prompts(value)]


def _prompts(value: Any) -> list[Any]:
    """Return the prompts one by one: a list of numbers is one prompt, as its tokens."""
    if value is None:
        return []
    if not isinstance(value, list) or _is_tokens(value):
        return [value]
    return cast("list[Any]", value)


def _is_tokens(value: Any) -> bool:
    items = as_list(value)
    return bool(items) and isinstance(items[0], int)


def _read(prompt: Any, other: str) -> list[Part]:
    return [Text(prompt)] if isinstance(prompt, str) else [Opaque("tokens" if _is_tokens(prompt) else other, prompt)]


def patch_prompts(old: list[Message], new: list[Message], wire: Any, what: str) -> Any:
    """Return `wire`, read as `old`, changed so that it reads as `new`; one prompt stays one outside of a list.

    Raises:
        CodecError: `what`, as people call it, is neither one text nor one list of tokens.
    """
    prompts = patch_sequence(
        old,
        new,
        _prompts(wire),
        patch=lambda _old, message, _wire: [_write(message, what)],
        build=lambda message: [_write(message, what)],
        alike=lambda _old, _new: True,
    )
    return prompts[0] if len(prompts) == 1 and _prompts(wire) is not wire else prompts


def _write(message: Message, what: str) -> Any:
    parts = message.parts
    if all(isinstance(part, Text) for part in parts):
        return message.text
    if len(parts) == 1 and isinstance(parts[0], Opaque):
        return parts[0].data
    kinds = [type(part).__name__ for part in parts]
    raise CodecError(f"{what} is one text or one list of tokens, not the parts {kinds!r}")


def refuse_more(request: ModelRequest, what: str) -> None:
    """Refuse what such a request has no form for.

    Raises:
        CodecError: `what`, as people call it, has instructions or tools.
    """
    if request.system or request.tools:
        raise CodecError(f"{what} has no instructions and no tools; remove `system` and `tools`")
