"""Which operations ask a model, what each is told as, and the models that its parameters name.

Parameters of the SDK to the JSON that policy judges, and back: bytes are base64 there, as they are on the wire.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from spanrelay import _json
from spanrelay._json import MAX_DEPTH
from spanrelay.codecs import Codec, anthropic_messages, bedrock_converse, bedrock_prompt, openai_chat, plain
from spanrelay.codecs.chat_dialects import capped_chat
from spanrelay.errors import MiddlewareError
from spanrelay.instrumentation.requests import Body, object_in
from spanrelay_bedrock.counts import counting


@dataclass(frozen=True, slots=True)
class Operation:
    """How one operation asks a model.

    Attributes:
        codec: The wire API of its parameters; None where the model's own body says it.
        stream: The key of the answer's events, where it has any.
        body: Whether request and answer are bodies of the model's own.
        answers: Whether a framework's call of a model may stand for it.
    """

    codec: Codec | None = plain
    stream: str = ""
    body: bool = False
    answers: bool = False


OPERATIONS: Mapping[str, Mapping[str, Operation]] = {
    "bedrock-runtime": {
        "Converse": Operation(bedrock_converse, answers=True),
        "ConverseStream": Operation(bedrock_converse, "stream", answers=True),
        "InvokeModel": Operation(None, body=True, answers=True),
        "InvokeModelWithResponseStream": Operation(None, "body", body=True, answers=True),
        "CountTokens": Operation(),
        "StartAsyncInvoke": Operation(),
    },
    "bedrock-agent-runtime": dict.fromkeys(
        (
            "AgenticRetrieveStream",
            "GenerateQuery",
            "InvokeAgent",
            "InvokeFlow",
            "InvokeInlineAgent",
            "OptimizePrompt",
            "Rerank",
            "Retrieve",
            "RetrieveAndGenerate",
            "RetrieveAndGenerateStream",
            "StartFlowExecution",
        ),
        Operation(),
    ),
    "bedrock": dict.fromkeys(("CreateEvaluationJob", "CreateModelInvocationJob"), Operation()),
}
"""By service, and there by its name; those of agents ask models that AWS keeps, or that they name."""

# --- models ------------------------------------------------------------------------------------------------

_NAMING = frozenset(
    {"modelId", "modelIdentifier", "modelArn", "foundationModel", "targetModelId", "foundationModelArn"}
)
"""Keys of parameters whose value is a model."""
KEEPING = frozenset({"bedrock"})
"""Services whose other operations name models to keep them, and ask none."""


def models_in(params: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the models that parameters name, wherever they do."""
    if depth > MAX_DEPTH:
        return
    if isinstance(params, Mapping):
        for key, value in cast("Mapping[Any, Any]", params).items():
            if key in _NAMING:
                yield value
            else:
                yield from models_in(value, depth + 1)
    elif isinstance(params, (list, tuple)):
        for each in cast("list[Any]", params):
            yield from models_in(each, depth + 1)


# --- bodies of a model's own --------------------------------------------------------------------------------


_NOVA = frozenset({"schemaVersion", "inferenceConfig", "toolConfig"})
"""Keys that bodies of Amazon's Nova models have, and no others."""


def codec_of(body: Mapping[str, Any], model: str | None) -> Codec:
    """Return the wire API of a model's own body, told by what is in it: an ARN says nothing of the model."""
    if "messages" in body:
        if "anthropic_version" in body:
            return counting(anthropic_messages)
        chat: Any = openai_chat if model is not None and "openai." in model else capped_chat
        return counting(chat if body.keys().isdisjoint(_NOVA) else bedrock_converse)
    embeds = model is not None and "embed" in model
    return counting(bedrock_prompt if bedrock_prompt.is_prompt(body) and not embeds else plain)


def doubt_about(body: Mapping[str, Any]) -> str | None:
    """Return why nobody can say which tools a body offers, or None: it has them as two makers' models take them."""
    if "toolConfig" in body and ("tools" in body or "anthropic_version" in body):
        return "its body offers tools in two forms, 'tools' and 'toolConfig'; leave out what its model does not take"
    return "its body is Nova's and has 'tools'; offer them in 'toolConfig'" if _is_mixed(body) else None


def _is_mixed(body: Mapping[str, Any]) -> bool:
    return "tools" in body and "anthropic_version" not in body and not body.keys().isdisjoint(_NOVA)


def read_body(body: Any) -> Body:
    """Return the JSON object in a request's body: bytes, a text, or a file, which is left where it stood."""
    if isinstance(body, (bytes, bytearray, str)):
        data: Any = body
    else:
        try:
            at = body.tell()
            data = body.read()
            body.seek(at)
        except Exception as error:  # an object of the application's
            return Body({}, f"its body cannot be read twice ({type(error).__name__}); pass bytes")
    read = object_in(data)
    return read if isinstance(read, Body) else Body(read)


# --- parameters and JSON -----------------------------------------------------------------------------------


def as_json(shape: Any, value: Any) -> Any:
    """Return a value of `shape`, as the SDK takes it, as JSON: nothing of it is shared but what is no JSON."""
    kind = None if shape is None else shape.type_name
    if kind == "blob":
        return base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray)) else value
    return _within(shape, value, as_json)


def as_given(shape: Any, value: Any) -> Any:
    """Return JSON as the SDK takes it for `shape`.

    Raises:
        MiddlewareError: what stands for bytes is no base64.
    """
    if shape is not None and shape.type_name == "blob" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise MiddlewareError(f"policy put text where a request has bytes; give base64 ({error})") from error
    return _within(shape, value, as_given)


def _within(shape: Any, value: Any, read: Any) -> Any:
    if isinstance(value, Mapping):
        members = getattr(shape, "members", {})
        inner = getattr(shape, "value", None)
        return {key: read(members.get(key, inner), each) for key, each in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        member = getattr(shape, "member", None)
        return [read(member, each) for each in cast("list[Any]", value)]
    return value


def with_head(head: Mapping[str, Any], body: bytes) -> bytes:
    """Return the JSON object `body` with what is not in it on the wire before what is."""
    rest = body.lstrip()[1:]
    started = _json.dumps(head)[:-1]
    return started + (b"}" if rest.lstrip()[:1] in (b"}", b"") else b"," + rest)
