"""What a model call, a tool call and a span say, in one shape for every provider and dialect.

Plain data: no I/O, no SDK. Codecs and dialects write and read these; the trajectory reads them.
Nobody mutates a record that somebody else may hold; make a new one with `dataclasses.replace`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

JSON: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, list or dict with string keys."""

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]

Kind: TypeAlias = Literal[
    "agent",
    "chain",
    "tool",
    "llm",
    "retriever",
    "embedder",
    "reranker",
    "guardrail",
    "evaluator",
    "custom",
]
"""What a call or a scope does; the kinds of OpenInference in lower case, and `custom`."""


@dataclass(slots=True)
class Text:
    """Text that is part of a message."""

    text: str


@dataclass(slots=True)
class Reasoning:
    """A model's thinking: readable text, and what a provider wants back unread.

    `redacted` is true where the provider hid the text and sent only `encrypted`.
    """

    text: str
    id: str | None = None
    signature: str | None = None
    encrypted: str | None = None
    redacted: bool = False


@dataclass(slots=True)
class Media:
    """An image, a sound, a video or a document: by `uri`, as base64 `data`, or by `file_id`."""

    modality: Literal["image", "audio", "video", "document"]
    mime_type: str | None = None
    uri: str | None = None
    data: str | None = None
    file_id: str | None = None
    name: str | None = None


@dataclass(slots=True)
class ToolCall:
    """A model asks for a tool. `arguments` is the decoded JSON, or the wire string where it is not JSON.

    `server` is true where the provider runs the tool itself (web search, code interpreter, MCP connector).
    `namespace` is that of the tools which this one is of, where there is one.
    """

    id: str | None
    name: str
    arguments: JSON = None
    server: bool = False
    type: str | None = None
    namespace: str | None = None


@dataclass(slots=True)
class ToolCallResponse:
    """What a tool answered, as a model is shown it. `content` is text, a list of parts, or other JSON.

    `name` and `namespace` are of the tool, where the wire says them beside the `id` of its call.
    """

    id: str | None
    content: str | list[Part] | JSON = None
    name: str | None = None
    is_error: bool = False
    server: bool = False
    namespace: str | None = None


@dataclass(slots=True)
class Opaque:
    """A part no record has a field for: its wire `type` and its wire JSON, untouched."""

    type: str
    data: JSON = None


Part: TypeAlias = Text | Reasoning | Media | ToolCall | ToolCallResponse | Opaque


@dataclass(slots=True)
class Message:
    """One message of a conversation. `finish_reason` is set on a model's answers only."""

    role: Role
    parts: list[Part] = field(default_factory=list)
    name: str | None = None
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        """The message's text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls of the message, in order."""
        return [part for part in self.parts if isinstance(part, ToolCall)]

    def saying(self, text: str) -> Message:
        """Return the message with `text` in place of all its text, where the first of it stood, or else first."""
        if self.text == text:
            return self
        first = next((at for at, part in enumerate(self.parts) if isinstance(part, Text)), 0)
        kept = [part for part in self.parts if not isinstance(part, Text)]
        return replace(self, parts=[*kept[:first], Text(text), *kept[first:]])


@dataclass(slots=True)
class ToolDefinition:
    """A tool offered to a model. `raw` is its wire JSON where that says more than the fields."""

    name: str
    description: str | None = None
    parameters: JSON = None
    type: str = "function"
    raw: JSON = None


@dataclass(slots=True)
class Usage:
    """Tokens of one model call. `input_tokens` includes cached ones, `output_tokens` reasoning ones.

    None means not reported, which is not zero. `cost_usd` is in US dollars, and so are the parts of it that the
    input and the output cost, where they are known apart. `cache_write_1h_tokens` are those of `cache_write_tokens`
    that stay for an hour, which costs more than the usual minutes; None where there are none.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    cost_usd: float | None = None
    input_cost_usd: float | None = None
    output_cost_usd: float | None = None
    cache_write_1h_tokens: int | None = None


@dataclass(slots=True)
class PromptCache:
    """What the plugin `prompt_cache` did with a model call, and what came of it.

    Attributes:
        decision: `marked`: the request was sent with `marks`; `would_mark`: it is only observed; `unmarked`.
        scaffold: Eight digits that stand for the model, the tools and the system prompt.
        marks: Where they stand and for how long, as in `system 5m`.
        expected_read_tokens: About how many tokens of the input the marks were to have read from the cache.
        hit_ratio: The share of the input that was read from the cache, as the provider reports it.
        saved_tokens: What was saved in tokens of plain input, less than 0 where writing cost more than reading saved.
            While it is only observed: what would have been.
        saved_usd: The same in US dollars, where there is a price.
        missed: Why nothing was read, where that is so.
        skipped: Why the request was left as it was, where nothing could be said of it.
    """

    decision: Literal["marked", "would_mark", "unmarked"] = "unmarked"
    scaffold: str | None = None
    marks: tuple[str, ...] = ()
    expected_read_tokens: int | None = None
    hit_ratio: float | None = None
    saved_tokens: int | None = None
    saved_usd: float | None = None
    missed: str | None = None
    skipped: str | None = None


@dataclass(slots=True)
class ResponseCache:
    """What the plugin `response_cache` did with a model call.

    Attributes:
        decision: `hit`: it was answered from the cache; `would_hit`: it is only observed; `miss`; `bypass`: it was not
            looked up.
        reason: Why it was not looked up, or its answer not kept.
        age_seconds: How long ago the provider gave the answer.
        saved_tokens: How many tokens the provider counted for it then.
    """

    decision: Literal["hit", "would_hit", "miss", "bypass"] = "bypass"
    reason: str | None = None
    age_seconds: float | None = None
    saved_tokens: int | None = None


@dataclass(slots=True)
class Tokens:
    """The tokens of a model call's first choice, where the provider tells them: ids, and log probabilities.

    `prompt_ids` are all that the model was sent, history included; `logprobs` has one number a generated token.
    """

    prompt_ids: list[int] | None = None
    completion_ids: list[int] | None = None
    logprobs: list[float] | None = None


@dataclass(slots=True)
class ErrorInfo:
    """A failure: `type` is the exception's qualified name or the provider's error type.

    `status_code` is the HTTP status; in the error of a `ModelResponse`, what its body calls the status. `stacktrace` is
    that of an exception, empty where message content leaves the process nowhere, and None where nothing was raised.
    """

    type: str
    message: str = ""
    code: str | None = None
    status_code: int | None = None
    stacktrace: str | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class PromptTemplate:
    """What a request was made of: a text with names in it, where it is known, and what was put in for them."""

    template: str | None = None
    variables: dict[str, JSON] = field(default_factory=dict)


@dataclass(slots=True)
class ModelRequest:
    """One request to a model.

    `system` holds instructions that the wire sends apart from the messages. `parameters` uses the names of
    OpenTelemetry's `gen_ai.request.*`: temperature, top_p, top_k, max_tokens, frequency_penalty,
    presence_penalty, seed, stop_sequences (list), choice_count, reasoning_effort, output_type, tool_choice,
    previous_response_id, conversation_id, encoding_formats, dimensions, service_tier; and prompt_id and
    prompt_version, of a prompt that the provider stores. An embeddings request has one user message for each input.
    """

    model: str | None = None
    messages: list[Message] = field(default_factory=list)
    system: list[Part] = field(default_factory=list)
    tools: list[ToolDefinition] = field(default_factory=list)
    parameters: dict[str, JSON] = field(default_factory=dict)
    stream: bool = False
    prompt: PromptTemplate | None = None


@dataclass(slots=True)
class ModelResponse:
    """One answer of a model: a message for each choice.

    `finish_reasons` are the provider's words, one a choice. `error` is set where the provider answered with
    an error body. `parameters` holds what has no field (service_tier, system_fingerprint, status,
    incomplete_reason, conversation_id, embedding_count, embedding_dimensions).
    """

    id: str | None = None
    model: str | None = None
    messages: list[Message] = field(default_factory=list)
    finish_reasons: list[str] = field(default_factory=list)
    usage: Usage | None = None
    error: ErrorInfo | None = None
    parameters: dict[str, JSON] = field(default_factory=dict)
    tokens: Tokens | None = None

    @property
    def text(self) -> str:
        """The text of the first choice."""
        return self.messages[0].text if self.messages else ""

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls of the first choice."""
        return self.messages[0].tool_calls if self.messages else []


@dataclass(slots=True)
class ToolRequest:
    """One execution of a tool: what it was given. `call_id` is the model's id for the call."""

    name: str
    arguments: JSON = None
    call_id: str | None = None
    description: str | None = None
    type: str | None = None


@dataclass(slots=True)
class ToolResult:
    """One execution of a tool: what it gave. `content` is text or other JSON.

    `annotation` is about the result, for readers of the record and not for the model. `exit_code` is that of a command
    which the tool ran.
    """

    content: JSON = None
    is_error: bool = False
    annotation: JSON = None
    exit_code: int | None = None


@dataclass(slots=True)
class AgentRequest:
    """One run of an agent: its name and what it was given, by argument name."""

    name: str
    input: JSON = None


@dataclass(slots=True)
class AgentResult:
    """One run of an agent: what it gave."""

    content: JSON = None


@dataclass(slots=True)
class AgentInfo:
    """An agent, by the names of OpenTelemetry's `gen_ai.agent.*`."""

    name: str | None = None
    id: str | None = None
    version: str | None = None
    description: str | None = None


@dataclass(slots=True)
class Mark:
    """Something that happened at one moment inside a span. `time` is in nanoseconds since the epoch."""

    name: str
    time: int
    attributes: dict[str, JSON] = field(default_factory=dict)


@dataclass(slots=True)
class Omission:
    """What a span leaves out of its input messages, since an earlier span of the conversation has carried it.

    `count` are the messages left out, `digest` is that of the history they are (empty where there are none), and
    `carriers` are the ids of the spans that carried them, the one that carried the last first. A later span refers to
    this one by `total`, the digest of the history with what this span carries, or by `answered`, that of the history
    with its answer too (empty where it has none). `size` are the characters that it carries.
    """

    count: int
    digest: str = ""
    carriers: tuple[int, ...] = ()
    total: str = ""
    answered: str = ""
    size: int = 0


@dataclass(slots=True)
class SpanRecord:
    """One span, read: what the trajectory and the lifecycle events see, whoever made the span.

    Ids are the integers of the trace context; times are nanoseconds since the epoch; `end` is None while the
    span is open. `kind` is None where no dialect recognises the span. `request` and `response` are set on
    model calls (and on agents, without usage, where an instrumentor records the agent's conversation), `tool`
    and `result` on tool calls, `input` and `output` on the other kinds. `incomplete` says why a call has only
    part of its answer: `cancelled`, `closed` (by its consumer), `abandoned`, `error`, `cut` (the connection of a stream
    ended in good order before the answer did). `content` is false where
    messages, arguments and results were not recorded. `answered_by` names the middleware that answered a call
    instead of the provider. `would_refuse` and `would_change` say what policy on trial would have done, and why.
    `omitted` is set where `request.messages` are only what an exporter had not sent before, and `missing` counts the
    messages that were left out so and are nowhere else. `parent_trace_id` is set where the parent is of another trace,
    and `attempts` are failed requests of the same call, which were sent before the one that this span tells of.
    """

    trace_id: int
    span_id: int
    parent_id: int | None = None
    remote_parent: bool = False
    name: str = ""
    kind: Kind | None = None
    start: int = 0
    end: int | None = None
    error: ErrorInfo | None = None
    operation: str | None = None
    provider: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    session_id: str | None = None
    user_id: str | None = None
    metadata: dict[str, JSON] = field(default_factory=dict)
    agent: AgentInfo | None = None
    request: ModelRequest | None = None
    response: ModelResponse | None = None
    tool: ToolRequest | None = None
    result: ToolResult | None = None
    time_to_first_chunk: float | None = None
    incomplete: str | None = None
    content: bool = True
    truncated: bool = False
    marks: list[Mark] = field(default_factory=list)
    scope_name: str | None = None
    scope_version: str | None = None
    service_name: str | None = None
    service_version: str | None = None
    environment: str | None = None
    dialect: str | None = None
    input: JSON = None
    output: JSON = None
    answered_by: str | None = None
    would_refuse: tuple[str, ...] = ()
    would_change: tuple[str, ...] = ()
    prompt_cache: PromptCache | None = None
    response_cache: ResponseCache | None = None
    omitted: Omission | None = None
    missing: int = 0
    parent_trace_id: int | None = None
    attempts: tuple[SpanRecord, ...] = ()

    @property
    def parent_key(self) -> tuple[int, int] | None:
        """The ids of the parent's trace and of the parent."""
        return (self.parent_trace_id or self.trace_id, self.parent_id) if self.parent_id else None

    @property
    def kept_conversation(self) -> str | None:
        """The id of the conversation that the provider keeps, by the request or else by the answer."""
        for side in (self.request, self.response):
            kept = side.parameters.get("conversation_id") if side is not None else None
            if isinstance(kept, str) and kept:
                return kept
        return None
