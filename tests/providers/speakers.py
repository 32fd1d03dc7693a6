"""The SDKs that the conversation is held through, each in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from tests.providers.conversation import (
    DESCRIPTION,
    PARAMETERS,
    Call,
    Result,
    Speaker,
    arguments_in,
    function_tool,
)


class OpenAI(Speaker):
    module = "openai"
    instrumentor = "spanrelay_openai:OpenAIInstrumentor"
    model = "gpt-5"
    client_class = "OpenAI"

    def connect(self, address: str) -> None:
        kind = getattr(import_module(self.module), self.client_class)
        self.client = kind(base_url=self.base_url(address), api_key="none", max_retries=0)

    def base_url(self, address: str) -> str:
        return f"{address}/v1"

    def ask(self) -> list[Call]:
        create = self.client.chat.completions.create
        message = (
            create(model=self.model, messages=self.messages, tools=[function_tool()], max_tokens=100).choices[0].message
        )
        self.messages.append(message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}))
        return [
            Call(call.id, call.function.name, arguments_in(call.function.arguments))
            for call in message.tool_calls or ()
        ]

    def stream(self) -> str:
        create = self.client.chat.completions.create
        usage = {"stream_options": {"include_usage": True}}
        chunks = create(
            model=self.model,
            messages=self.messages,
            tools=[function_tool()],
            max_tokens=100,
            stream=True,
            extra_body=usage,
        )
        return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)

    def give(self, results: Sequence[Result]) -> None:
        self.messages += [
            {"role": "tool", "tool_call_id": call.id, "content": output} for call, output, _failed in results
        ]

    def close(self) -> None:
        self.client.close()


class Groq(OpenAI):
    module = "groq"
    instrumentor = "spanrelay_openai_compatible:GroqInstrumentor"
    model = "llama-3.3-70b-versatile"
    client_class = "Groq"

    def base_url(self, address: str) -> str:
        return address


class Mistral(Speaker):
    module = "mistralai.client"
    instrumentor = "spanrelay_mistral:MistralInstrumentor"
    model = "mistral-large-latest"

    def connect(self, address: str) -> None:
        self.client = import_module(self.module).Mistral(api_key="none", server_url=address).__enter__()

    def ask(self) -> list[Call]:
        answer = self.client.chat.complete(
            model=self.model, messages=self.messages, tools=[function_tool()], max_tokens=100
        )
        message = answer.choices[0].message
        self.messages.append(message)
        return [
            Call(call.id, call.function.name, arguments_in(call.function.arguments))
            for call in message.tool_calls or ()
        ]

    def stream(self) -> str:
        with self.client.chat.stream(
            model=self.model, messages=self.messages, tools=[function_tool()], max_tokens=100
        ) as events:
            return "".join(choice.delta.content or "" for event in events for choice in event.data.choices)

    def give(self, results: Sequence[Result]) -> None:
        self.messages += [
            {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": output}
            for call, output, _failed in results
        ]

    def close(self) -> None:
        self.client.__exit__(None, None, None)


class Cohere(Speaker):
    module = "cohere"
    instrumentor = "spanrelay_cohere:CohereInstrumentor"
    model = "command-a-03-2025"

    def connect(self, address: str) -> None:
        self.client = import_module(self.module).ClientV2(api_key="none", base_url=address)

    def ask(self) -> list[Call]:
        message = self.client.chat(
            model=self.model, messages=self.messages, tools=[function_tool()], max_tokens=100
        ).message
        self.messages.append(message.model_dump(exclude_none=True))
        return [
            Call(call.id, call.function.name, arguments_in(call.function.arguments))
            for call in message.tool_calls or ()
        ]

    def stream(self) -> str:
        events = self.client.chat_stream(
            model=self.model, messages=self.messages, tools=[function_tool()], max_tokens=100
        )
        return "".join(event.delta.message.content.text for event in events if event.type == "content-delta")

    def give(self, results: Sequence[Result]) -> None:
        self.messages += [
            {"role": "tool", "tool_call_id": call.id, "content": output} for call, output, _failed in results
        ]

    def close(self) -> None:
        self.client._client_wrapper.httpx_client.httpx_client.close()


OPTIONS = {"num_predict": 100}


class Ollama(Speaker):
    module = "ollama"
    instrumentor = "spanrelay_ollama:OllamaInstrumentor"
    model = "llama3.2"

    def connect(self, address: str) -> None:
        self.client = import_module(self.module).Client(host=address)

    def ask(self) -> list[Call]:
        message = self.client.chat(
            model=self.model, messages=self.messages, tools=[function_tool()], options=OPTIONS
        ).message
        self.messages.append(message)
        return [Call(None, call.function.name, dict(call.function.arguments)) for call in message.tool_calls or ()]

    def stream(self) -> str:
        parts = self.client.chat(
            model=self.model, messages=self.messages, tools=[function_tool()], stream=True, options=OPTIONS
        )
        return "".join(part.message.content or "" for part in parts)

    def give(self, results: Sequence[Result]) -> None:
        self.messages += [
            {"role": "tool", "tool_name": call.name, "content": output} for call, output, _failed in results
        ]

    def close(self) -> None:
        self.client.close()


class Anthropic(Speaker):
    module = "anthropic"
    instrumentor = "spanrelay_anthropic:AnthropicInstrumentor"
    model = "claude-sonnet-5"
    tools = ({"name": "get_weather", "description": DESCRIPTION, "input_schema": PARAMETERS},)

    def connect(self, address: str) -> None:
        self.client = import_module(self.module).Anthropic(base_url=address, api_key="none", max_retries=0)

    def ask(self) -> list[Call]:
        answer = self.client.messages.create(
            model=self.model, max_tokens=100, messages=self.messages, tools=list(self.tools)
        )
        self.messages.append({"role": "assistant", "content": answer.content})
        return [Call(block.id, block.name, dict(block.input)) for block in answer.content if block.type == "tool_use"]

    def stream(self) -> str:
        with self.client.messages.stream(
            model=self.model, max_tokens=100, messages=self.messages, tools=list(self.tools)
        ) as events:
            return "".join(events.text_stream)

    def give(self, results: Sequence[Result]) -> None:
        blocks = [
            {"type": "tool_result", "tool_use_id": call.id, "content": output, **({"is_error": True} if failed else {})}
            for call, output, failed in results
        ]
        self.messages.append({"role": "user", "content": blocks})

    def close(self) -> None:
        self.client.close()


class GoogleGenAI(Speaker):
    module = "google.genai"
    instrumentor = "spanrelay_google_genai:GoogleGenAIInstrumentor"
    model = "gemini-2.5-flash"

    def connect(self, address: str) -> None:
        genai, self.types = import_module(self.module), import_module("google.genai.types")
        options = self.types.HttpOptions(base_url=address)
        self.client = genai.Client(api_key="none", http_options=options, vertexai=False)

    def say(self, text: str) -> None:
        self.messages.append(self.types.Content(role="user", parts=[self.types.Part(text=text)]))

    @property
    def config(self) -> Any:
        declared = {"name": "get_weather", "description": DESCRIPTION, "parameters_json_schema": PARAMETERS}
        tool = self.types.Tool(function_declarations=[self.types.FunctionDeclaration(**declared)])
        return self.types.GenerateContentConfig(tools=[tool], max_output_tokens=100)

    def ask(self) -> list[Call]:
        answer = self.client.models.generate_content(model=self.model, contents=self.messages, config=self.config)
        self.messages.append(answer.candidates[0].content)
        return [Call(call.id, call.name, dict(call.args)) for call in answer.function_calls or ()]

    def stream(self) -> str:
        chunks = self.client.models.generate_content_stream(
            model=self.model, contents=self.messages, config=self.config
        )
        return "".join(chunk.text or "" for chunk in chunks)

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

    def close(self) -> None:
        self.client.close()


class Bedrock(Speaker):
    module = "boto3"
    instrumentor = "spanrelay_bedrock:BedrockInstrumentor"
    model = "anthropic.claude-3-5-sonnet-20241022-v2:0"

    def connect(self, address: str) -> None:
        session = import_module(self.module).Session(
            aws_access_key_id="none", aws_secret_access_key="none", region_name="us-east-1"
        )
        self.client = session.client("bedrock-runtime", endpoint_url=address)

    def say(self, text: str) -> None:
        self.messages.append({"role": "user", "content": [{"text": text}]})

    @property
    def request(self) -> dict[str, Any]:
        spec = {"name": "get_weather", "description": DESCRIPTION, "inputSchema": {"json": PARAMETERS}}
        return {
            "modelId": self.model,
            "messages": self.messages,
            "toolConfig": {"tools": [{"toolSpec": spec}]},
            "inferenceConfig": {"maxTokens": 100},
        }

    def ask(self) -> list[Call]:
        message = self.client.converse(**self.request)["output"]["message"]
        self.messages.append(message)
        used = [block["toolUse"] for block in message["content"] if "toolUse" in block]
        return [Call(use["toolUseId"], use["name"], use["input"]) for use in used]

    def stream(self) -> str:
        events = self.client.converse_stream(**self.request)["stream"]
        deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
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

    def close(self) -> None:
        self.client.close()


SPEAKERS: tuple[type[Speaker], ...] = (OpenAI, Anthropic, GoogleGenAI, Bedrock, Mistral, Cohere, Groq, Ollama)
