"""A call of a tool over MCP: the parameters of `tools/call`, and the result that a server answers with.

Pure JSON. Each function returns a new object, in which what nobody changed is as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spanrelay import _json
from spanrelay.records import JSON, ToolRequest, ToolResult

METHOD = "tools/call"


def is_shown_as(name: str, shown: str) -> bool:
    """Whether a framework may show the tool `name` of a server as `shown`: many put the server's name before it."""
    return shown == name or (shown.endswith(name) and shown[-len(name) - 1 : -len(name)] in _SEPARATORS)


def decode_request(params: Mapping[str, Any]) -> ToolRequest:
    """Return what a tool is asked for; the id of the request is none that a model gave."""
    return ToolRequest(str(params.get("name", "")), params.get("arguments"))


def encode_request(request: ToolRequest, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return `params` with the name and the arguments of `request`; arguments that nobody gave stay away."""
    written = {**params, "name": request.name}
    if request.arguments is not None or "arguments" in params:
        written["arguments"] = request.arguments
    return written


def decode_result(result: Mapping[str, Any]) -> ToolResult:
    """Return what a tool answered, as a model is shown it.

    That is the text where there is nothing but text, else the blocks. Structured content that says more than the text
    stands beside them, in a dict with the keys of the wire. What is no result of a tool, as a request for input, is
    kept whole.
    """
    is_error = result.get("isError") is True
    content, structured = result.get("content"), result.get("structuredContent")
    if not isinstance(content, list):
        return ToolResult(dict(result), is_error)
    texts = _texts(cast("list[Any]", content))
    shown: JSON = content if texts is None else "\n".join(texts)
    if structured is None or (texts is not None and _says_the_same(structured, texts)):
        return ToolResult(shown, is_error)
    return ToolResult({"content": content, "structuredContent": structured} if content else structured, is_error)


def encode_result(content: JSON, *, is_error: bool = False) -> dict[str, Any]:
    """Return the result that says `content`: a text, JSON, blocks of MCP, or a result of MCP as it is.

    A tool that declares what it gives is held to it by the client, so that what is no error is structured too, in the
    shape that the SDK's servers give a plain value: `{"result": value}`.
    """
    if isinstance(content, dict) and _is_blocks(content.get("content")):
        return {"isError": is_error, **content}
    if _is_blocks(content):
        return {"content": content, "isError": is_error}
    text = content if isinstance(content, str) else _json.dumps_text(content)
    written: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": is_error}
    if not is_error:
        written["structuredContent"] = content if isinstance(content, dict) else {"result": content}
    return written


def _texts(content: list[Any]) -> list[str] | None:
    """Return the texts of `content` where it is nothing but texts."""
    blocks = [block for block in content if isinstance(block, dict) and block.get("type") == "text"]
    texts = [block["text"] for block in blocks if isinstance(block.get("text"), str)]
    return texts if texts and len(texts) == len(content) else None


def _is_blocks(content: JSON) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(block, dict) and block.get("type") in _BLOCKS for block in cast("list[Any]", content))
    )


_SEPARATORS = frozenset("_-./:")
_BLOCKS = ("text", "image", "audio", "resource", "resource_link")


def _says_the_same(structured: Any, texts: list[str]) -> bool:
    """Whether `structured` is what the texts say: SDKs send a plain value as both, wrapped in `{"result": value}`."""
    read = [_json.loads_or_text(text) for text in texts]
    said: list[Any] = [texts, read, *((texts[0], read[0]) if len(texts) == 1 else ())]
    said += [{"result": each} for each in said]
    written = _json.dumps_sorted(structured)
    return any(_json.dumps_sorted(each) == written for each in said)
