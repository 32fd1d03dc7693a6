"""The SDKs that the conversation is held through, each in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from importlib import import_module
from typing import Any, ClassVar

from tests.providers.conversation import (
    DESCRIPTION,
    MAX_TOKENS,
    PARAMETERS,
    TEMPERATURE,
    Call,
    Result,
    Speaker,
    arguments_in,
    function_tool,
)

from spanrelay_testkit.conformance.driver import is_importable


class OpenAI(Speaker):
    module = "openai"
    instrumentor = "spanrelay_openai:OpenAIInstrumentor"
    model = "gpt-5"
    client_class = "OpenAI"
    counted: ClassVar[dict[str, Any]] = {"extra_body": {"stream_options": {"include_usage": True}}}
    """What asks for usage in a stream, in words that each of these SDKs takes."""

    def connect(self, address: str) -> Any:
        name = f"Async{self.client_class}" if self.half.asynchronous else self.client_class
        kind = getattr(import_module(self.module), name)
        return kind(base_url=self.base_url(address), api_key="none", max_retries=0)

    def base_url(self, address: str) -> str:
        return f"{address}/v1"

    def complete(self, **options: Any) -> Any:
        return self.client.chat.completions.create(**self.request, **options)

    async def ask(self) -> list[Call]:
        message = (await self.half.settle(self.complete())).choices[0].message
        self.messages.append(self.kept(message))
        return [
            Call(call.id, call.function.name, arguments_in(call.function.arguments))
            for call in message.tool_calls or ()
        ]

    def kept(self, message: Any) -> Any:
        return message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"})

    async def stream(self) -> str:
        chunks = await self.half.settle(self.complete(stream=True, **self.counted))
        said = [choice.delta.content async for chunk in self.half.each(chunks) for choice in chunk.choices]
        return "".join(filter(None, said))

    def give(self, results: Sequence[Result]) -> None:
        self.messages += [
            {"role": "tool", "tool_call_id": call.id, "content": output} for call, output, _failed in results
        ]


class Groq(OpenAI):
    module = "groq"
    instrumentor = "spanrelay_openai_compatible:GroqInstrumentor"
    model = "llama-3.3-70b-versatile"
    client_class = "Groq"

    def base_url(self, address: str) -> str:
        return address


class LiteLLM(OpenAI):
    """Its function, which sends by a client of its own."""

    module = "litellm"
    instrumentor = "spanrelay_litellm:LiteLLMInstrumentor"
    model = "house-model"  # LiteLLM puts a price on those it knows
    counted: ClassVar[dict[str, Any]] = {"stream_options": {"include_usage": True}}

    def connect(self, address: str) -> Any:
        return nullcontext({"api_base": f"{address}/v1", "api_key": "none", "custom_llm_provider": "deepseek"})

    def complete(self, **options: Any) -> Any:
        function = getattr(import_module(self.module), "acompletion" if self.half.asynchronous else "completion")
        return function(**self.client, **self.request, **options)


class HuggingFace(OpenAI):
    module = "huggingface_hub"
    instrumentor = "spanrelay_huggingface:HuggingFaceInstrumentor"
    model = "meta-llama/Llama-3.3-70B-Instruct"
    counted: ClassVar[dict[str, Any]] = {"stream_options": {"include_usage": True}}

    def connect(self, address: str) -> Any:
        hub = import_module(self.module)
        kind = hub.AsyncInferenceClient if self.half.asynchronous else hub.InferenceClient
        return kind(base_url=self.base_url(address), api_key="none")

    def kept(self, message: Any) -> Any:
        return {name: value for name, value in message.items() if value is not None}


class Mistral(Speaker):
    module = "mistralai.client"
    instrumentor = "spanrelay_mistral:MistralInstrumentor"
    model = "mistral-large-latest"

    def connect(self, address: str) -> Any:
        return import_module(self.module).Mistral(api_key="none", server_url=address)

    def method(self, name: str) -> Any:
        return getattr(self.client.chat, f"{name}_async" if self.half.asynchronous else name)

    async def ask(self) -> list[Call]:
        message = (await self.half.settle(self.method("complete")(**self.request))).choices[0].message
        self.messages.append(message)
        return [
            Call(call.id, call.function.name, arguments_in(call.function.arguments))
            for call in message.tool_calls or ()
        ]

    async def stream(self) -> str:
        async with self.half.entered(await self.half.settle(self.method("stream")(**self.request))) as events:
            said = [choice.delta.content async for event in self.half.each(events) for choice in event.data.choices]
        return "".join(filter(None, said))

    def give(self, results: Sequence[Result]) -> None:
        self.messages += [
            {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": output}
            for call, output, _failed in results
        ]


class Cohere(Speaker):
    module = "cohere"
    instrumentor = "spanrelay_cohere:CohereInstrumentor"
    model = "command-a-03-2025"

    def connect(self, address: str) -> Any:
        cohere = import_module(self.module)
        kind = cohere.AsyncClientV2 if self.half.asynchronous else cohere.ClientV2
        return kind(api_key="none", base_url=address)

    async def ask(self) -> list[Call]:
        message = (await self.half.settle(self.client.chat(**self.request))).message
        self.messages.append(message.model_dump(exclude_none=True))
        return [
            Call(call.id, call.function.name, arguments_in(call.function.arguments))
            for call in message.tool_calls or ()
        ]

    async def stream(self) -> str:
        events = [event async for event in self.half.each(self.client.chat_stream(**self.request))]
        return "".join(event.delta.message.content.text for event in events if event.type == "content-delta")

    give = OpenAI.give


class Closing:
    """A client of Ollama's before it was a context manager."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __enter__(self) -> Any:
        return self.client

    def __exit__(self, *exc_info: object) -> None:
        self.client._client.close()

    async def __aenter__(self) -> Any:
        return self.client

    async def __aexit__(self, *exc_info: object) -> None:
        await self.client._client.aclose()


class Ollama(Speaker):
    module = "ollama"
    instrumentor = "spanrelay_ollama:OllamaInstrumentor"
    model = "llama3.2"

    def connect(self, address: str) -> Any:
        ollama = import_module(self.module)
        client = (ollama.AsyncClient if self.half.asynchronous else ollama.Client)(host=address)
        return client if hasattr(client, "__exit__") or hasattr(client, "__aexit__") else Closing(client)

    @property
    def request(self) -> dict[str, Any]:
        tools = {"tools": [function_tool()]} if self.offers else {}
        return {
            "model": self.model,
            "messages": self.messages,
            "options": {"temperature": TEMPERATURE, "num_predict": MAX_TOKENS},
            **tools,
        }

    async def ask(self) -> list[Call]:
        message = (await self.half.settle(self.client.chat(**self.request))).message
        self.messages.append(message)
        return [Call(None, call.function.name, dict(call.function.arguments)) for call in message.tool_calls or ()]

    async def stream(self) -> str:
        parts = await self.half.settle(self.client.chat(**self.request, stream=True))
        return "".join([part.message.content or "" async for part in self.half.each(parts)])

    def give(self, results: Sequence[Result]) -> None:
        self.messages += [
            {"role": "tool", "tool_name": call.name, "content": output} for call, output, _failed in results
        ]


class Anthropic(Speaker):
    module = "anthropic"
    instrumentor = "spanrelay_anthropic:AnthropicInstrumentor"
    model = "claude-sonnet-5"

    def connect(self, address: str) -> Any:
        anthropic = import_module(self.module)
        kind = anthropic.AsyncAnthropic if self.half.asynchronous else anthropic.Anthropic
        return kind(base_url=address, api_key="none", max_retries=0)

    @property
    def request(self) -> dict[str, Any]:
        # The newest methods have no `temperature`, which the API takes.
        rest = {"extra_body": {"temperature": TEMPERATURE}}
        asked = {"model": self.model, "max_tokens": MAX_TOKENS, "messages": self.messages, **rest}
        tool = {"name": "get_weather", "description": DESCRIPTION, "input_schema": PARAMETERS}
        return {**asked, "tools": [tool]} if self.offers else asked

    async def ask(self) -> list[Call]:
        answer = await self.half.settle(self.client.messages.create(**self.request))
        self.messages.append({"role": "assistant", "content": answer.content})
        return [Call(block.id, block.name, dict(block.input)) for block in answer.content if block.type == "tool_use"]

    async def stream(self) -> str:
        async with self.half.entered(self.client.messages.stream(**self.request)) as events:
            return "".join([text async for text in self.half.each(events.text_stream)])

    def give(self, results: Sequence[Result]) -> None:
        blocks = [
            {"type": "tool_result", "tool_use_id": call.id, "content": output, **({"is_error": True} if failed else {})}
            for call, output, failed in results
        ]
        self.messages.append({"role": "user", "content": blocks})


class GoogleGenAI(Speaker):
    module = "google.genai"
    instrumentor = "spanrelay_google_genai:GoogleGenAIInstrumentor"
    model = "gemini-2.5-flash"

    def connect(self, address: str) -> Any:
        genai, self.types = import_module(self.module), import_module("google.genai.types")
        options = self.types.HttpOptions(base_url=address)
        client = genai.Client(api_key="none", http_options=options, vertexai=False)
        return client.aio if self.half.asynchronous else client

    def say(self, text: str) -> None:
        self.messages.append(self.types.Content(role="user", parts=[self.types.Part(text=text)]))

    @property
    def request(self) -> dict[str, Any]:
        declared = {"name": "get_weather", "description": DESCRIPTION, "parameters_json_schema": PARAMETERS}
        tool = self.types.Tool(function_declarations=[self.types.FunctionDeclaration(**declared)])
        config = self.types.GenerateContentConfig(
            tools=[tool] if self.offers else None, temperature=TEMPERATURE, max_output_tokens=MAX_TOKENS
        )
        return {"model": self.model, "contents": self.messages, "config": config}

    async def ask(self) -> list[Call]:
        answer = await self.half.settle(self.client.models.generate_content(**self.request))
        self.messages.append(answer.candidates[0].content)
        return [Call(call.id, call.name, dict(call.args)) for call in answer.function_calls or ()]

    async def stream(self) -> str:
        chunks = await self.half.settle(self.client.models.generate_content_stream(**self.request))
        return "".join([chunk.text or "" async for chunk in self.half.each(chunks)])

    def give(self, results: Sequence[Result]) -> None:
        parts = [
            self.types.Part(
                function_response=self.types.FunctionResponse(
                    id=call.id, name=call.name, response={"error" if failed else "result": output}
                )
            )
            for call, output, failed in results
        ]
        self.messages.append(self.types.Content(role="user", parts=parts))


class Bedrock(Speaker):
    """By boto3, or by aiobotocore."""

    module = "boto3"
    instrumentor = "spanrelay_bedrock:BedrockInstrumentor"
    model = "anthropic.claude-3-5-sonnet-20241022-v2:0"

    def connect(self, address: str) -> Any:
        access = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "us-east-1"}
        if self.half.asynchronous:
            session = import_module("aiobotocore.session").get_session()
            return session.create_client("bedrock-runtime", endpoint_url=address, **access)
        return closing(import_module(self.module).client("bedrock-runtime", endpoint_url=address, **access))

    def say(self, text: str) -> None:
        self.messages.append({"role": "user", "content": [{"text": text}]})

    @property
    def request(self) -> dict[str, Any]:
        spec = {"name": "get_weather", "description": DESCRIPTION, "inputSchema": {"json": PARAMETERS}}
        tools = {"toolConfig": {"tools": [{"toolSpec": spec}]}} if self.offers else {}
        asked = {
            "modelId": self.model,
            "messages": self.messages,
            "inferenceConfig": {"temperature": TEMPERATURE, "maxTokens": MAX_TOKENS},
        }
        return {**asked, **tools}

    async def ask(self) -> list[Call]:
        message = (await self.half.settle(self.client.converse(**self.request)))["output"]["message"]
        self.messages.append(message)
        used = [block["toolUse"] for block in message["content"] if "toolUse" in block]
        return [Call(use["toolUseId"], use["name"], use["input"]) for use in used]

    async def stream(self) -> str:
        events = (await self.half.settle(self.client.converse_stream(**self.request)))["stream"]
        # Neither is an iterator itself.
        each = self.half.each(aiter(events) if self.half.asynchronous else iter(events))
        deltas = [event["contentBlockDelta"]["delta"] async for event in each if "contentBlockDelta" in event]
        return "".join(delta.get("text", "") for delta in deltas)

    def give(self, results: Sequence[Result]) -> None:
        blocks = [
            {
                "toolResult": {
                    "toolUseId": call.id,
                    "content": [{"text": output}],
                    **({"status": "error"} if failed else {}),
                }
            }
            for call, output, failed in results
        ]
        self.messages.append({"role": "user", "content": blocks})


SPEAKERS: tuple[type[Speaker], ...] = (
    OpenAI,
    Anthropic,
    GoogleGenAI,
    Bedrock,
    Mistral,
    Cohere,
    Groq,
    Ollama,
    HuggingFace,
    LiteLLM,
)
HERE = [each for each in SPEAKERS if is_importable(each.module) and is_importable(each.instrumentor.partition(":")[0])]


def instrumentor_of(speaker: type[Speaker]) -> Any:
    """Return our class that records an SDK."""
    module, _, name = speaker.instrumentor.partition(":")
    return getattr(import_module(module), name)
