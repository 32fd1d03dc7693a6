"""LangChain's objects as JSON, and JSON as its objects.

What policy left alone is handed on as the very object; nothing is read before somebody looks. LangChain is imported
when it is used: this is loaded while LangChain itself is being imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from spanrelay import _json
from spanrelay._guard import guarded
from spanrelay.codecs import langchain
from spanrelay.codecs.narrowing import as_mapping
from spanrelay.errors import MiddlewareError

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatResult

_NOT_SENT = frozenset({"artifact"})
"""Fields of a message that no model is shown."""


def plain(message: Any) -> Any:
    """Return the fields of a message; what JSON has no form for in them is for whoever writes them."""
    fields: dict[str, Any] | None = getattr(message, "__dict__", None)
    if fields is None:
        return message
    extra = getattr(message, "__pydantic_extra__", None)
    fields = {**fields, **extra} if extra else fields
    return fields if "artifact" not in fields else {k: v for k, v in fields.items() if k not in _NOT_SENT}


@lru_cache(maxsize=1)
def _classes() -> dict[str, type[BaseMessage]]:
    """Return the classes of messages by the `type` that each says it has."""
    from langchain_core import messages

    kinds: list[type[BaseMessage]] = [
        messages.HumanMessage,
        messages.AIMessage,
        messages.SystemMessage,
        messages.ToolMessage,
        messages.FunctionMessage,
        messages.ChatMessage,
        messages.RemoveMessage,
        messages.HumanMessageChunk,
        messages.AIMessageChunk,
        messages.SystemMessageChunk,
        messages.ToolMessageChunk,
        messages.FunctionMessageChunk,
        messages.ChatMessageChunk,
    ]
    return {kind.model_fields["type"].default: kind for kind in kinds}


def message_of(item: Any) -> BaseMessage:
    """Return the message that `item` is the JSON of.

    Raises:
        MiddlewareError: it is none.
    """
    kind = _classes().get(as_mapping(item).get("type") or "")
    if kind is None:
        raise MiddlewareError(f"policy made {item!r} of a message; expected one with a `type` that LangChain knows")
    try:
        return kind(**{key: value for key, value in item.items() if value is not None or key == "content"})
    except ValueError as error:
        raise MiddlewareError(f"what policy returned is not a valid {kind.__name__!r}: {error}") from error


def rebuilt(objects: list[BaseMessage], before: list[Any], after: list[Any]) -> list[BaseMessage]:
    """Return the messages for `after`, where `before` is the JSON of `objects`: equal ones are the very objects."""
    return [_one_rebuilt(objects, before, index, item) for index, item in enumerate(after)]


def _one_rebuilt(objects: list[BaseMessage], before: list[Any], index: int, item: Any) -> BaseMessage:
    was = before[index] if index < len(before) else None
    if was == item:
        return objects[index]
    if item in before:
        return objects[before.index(item)]
    if was is None or was.get("type") != item.get("type"):
        return message_of(item)
    message_of(item)  # a copy is not validated
    return objects[index].model_copy(update={key: item[key] for key in item if item[key] != was.get(key)})


class Asked(Mapping[str, Any]):
    """What a chat model is asked, as JSON, read from the application's objects when somebody looks.

    Args:
        model: The chat model.
        given: Messages, or whatever else the model takes for input.
        stop: Stop sequences.
        options: The keyword arguments of the call.
        stream: Whether a stream is asked for.
    """

    __slots__ = ("_messages", "_model", "_read", "given", "name", "options", "stop", "stream")

    def __init__(self, model: Any, given: Any, stop: Any, options: dict[str, Any], *, stream: bool) -> None:
        self._model = model
        self.name = name_of(model, options)
        self.given = given
        self.stop = stop
        self.options = options
        self.stream = stream
        self._read: dict[str, Any] | None = None
        self._messages: list[BaseMessage] = []

    def __getitem__(self, key: str) -> Any:
        if key == "model" and self.name is not None:
            return self.name
        if key == "stream" and self._read is None:
            if self.stream:
                return True
            raise KeyError(key)
        return self._json()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._json())

    def __len__(self) -> int:
        return len(self._json())

    def _json(self) -> dict[str, Any]:
        if self._read is None:
            self._messages = _messages_of(self._model, self.given)
            wire: dict[str, Any] = {"model": self.name, "messages": [plain(message) for message in self._messages]}
            wire |= {"stop": self.stop, **settings_of(self._model), **self.options}
            if self.stream:
                wire["stream"] = True
            self._read = {key: value for key, value in wire.items() if value is not None and key not in _TRACED}
        return self._read

    def edited(self, wire: Mapping[str, Any]) -> tuple[list[BaseMessage], Any, dict[str, Any]]:
        """Return messages, stop sequences and options for `wire`, which policy made of this.

        Raises:
            MiddlewareError: policy turned `stream` on or off, or made what is no message.
        """
        before = cast("dict[str, Any]", _json.loads(_json.dumps(self._json())))
        if bool(wire.get("stream")) != self.stream:
            raise MiddlewareError("policy may not turn `stream` on or off: the caller expects the other form")
        messages = rebuilt(self._messages, before["messages"], list(wire.get("messages") or ()))
        options = dict(self.options)
        for key in {*before, *wire} - {"messages", "stream", "stop"}:
            if wire.get(key) == before.get(key):
                continue
            if key in wire:
                options[key] = wire[key]
            else:
                options.pop(key, None)
        stop = self.stop if wire.get("stop") == before.get("stop") else wire.get("stop")
        return messages, stop, options


def name_of(model: Any, options: Mapping[str, Any]) -> str | None:
    """Return the name of the model that is asked, as LangChain's integrations call that field."""
    name = options.get("model")
    if isinstance(name, str):
        return name
    for field in ("model_name", "model", "model_id"):
        name = getattr(model, field, None)
        if isinstance(name, str):
            return name
    return None


_TRACED = frozenset({"ls_structured_output_format", "structured_output_format"})
"""Options that are for LangChain's own tracing and are not sent."""


def _messages_of(model: Any, given: Any) -> list[BaseMessage]:
    from langchain_core.messages import BaseMessage

    if not isinstance(given, list):
        return model._convert_input(given).to_messages()
    messages: list[BaseMessage] = given
    for message in messages:
        if BaseMessage not in type(message).__mro__:  # pydantic's `isinstance` is a call for each message
            return model._convert_input(given).to_messages()
    return messages


def settings_of(model: Any) -> dict[str, Any]:
    """Return what the model object itself says of its requests."""
    with guarded("reading a model's settings"):
        known = model._get_ls_params()
        return {key: known.get(f"ls_{key}") for key in ("temperature", "max_tokens")}
    return {}


def result_json(result: ChatResult) -> dict[str, Any]:
    """Return an answer as JSON."""
    generations = [
        {"message": plain(generation.message), "generation_info": generation.generation_info}
        for generation in result.generations
    ]
    return {"generations": generations, "llm_output": result.llm_output}


def result_json_from_cache(result: ChatResult) -> dict[str, Any]:
    """Return an answer as JSON without what was said of another call: its tokens, which nobody spent, and its id."""
    generations = [
        {**generation, "message": _without_call(generation["message"])}
        for generation in result_json(result)["generations"]
    ]
    return {"generations": generations, "llm_output": None}


def _without_call(message: dict[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in message["response_metadata"].items() if key not in ("id", "token_usage")}
    return {**message, "id": None, "usage_metadata": None, "response_metadata": said}


def result_of(body: Mapping[str, Any], run_id: Any) -> ChatResult:
    """Return the answer that `body` is the JSON of, its messages with the ids that those of `run_id` have."""
    from langchain_core.outputs import ChatGeneration, ChatResult

    generations: list[ChatGeneration] = []
    for index, item in enumerate(body.get("generations") or ()):
        message = message_of(item["message"])
        if run_id is not None and (message.id is None or message.id.startswith("lc_run--")):
            message.id = f"lc_run--{run_id}-{index}"
        generations.append(ChatGeneration(message=message, generation_info=item.get("generation_info")))
    return ChatResult(generations=generations, llm_output=body.get("llm_output"))


def chunks_of(body: Mapping[str, Any]) -> list[BaseMessage]:
    """Return the chunks that add up to the answer that `body` is the JSON of."""
    return [message_of(event) for event in langchain.stream_events(body)]
