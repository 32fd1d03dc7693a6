"""Generated wire bodies for property tests: any JSON, and JSON in the shape of the APIs."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from spanrelay.codecs.anthropic_messages import messages as anthropic_messages
from spanrelay.codecs.anthropic_messages import stream as anthropic_stream
from spanrelay.codecs.bedrock_converse import messages as converse_messages
from spanrelay.codecs.gemini_generate_content import messages as gemini_messages
from spanrelay.codecs.gemini_generate_content import tools as gemini_tools
from spanrelay.codecs.openai_chat import messages as chat_messages
from spanrelay.codecs.openai_responses import messages as responses_messages
from spanrelay.codecs.openai_responses import stream as responses_stream

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = st.sampled_from(["alpha", "beta", "gamma"])
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2, allow_nan=False) | texts

KEYS = re.findall(
    r"\w+",
    """
    id type role content messages input output choices message delta text name tools function custom arguments
    usage error code status index model stream stop n audio refusal tool_calls function_call reasoning summary
    prompt_tokens_details prompt_tokens finish_reason call_id tool_call_id image_url url file input_audio data
    contents parts candidates finishReason args name requests instances content thought usageMetadata promptTokenCount
    generationConfig systemInstruction functionDeclarations functionCallingConfig allowedFunctionNames embeddings
    partialArgs jsonPath stringValue willContinue promptFeedback
    response item part output_index content_index action result logprobs reasoning_details conversation format
    content_block source thinking signature tool_use_id system stop_reason partial_json output_config container
    response item part output_index toolUse toolResult reasoningContent guardContent citationsContent toolConfig
    contentBlockStart contentBlockDelta contentBlockIndex messageStop metadata stopReason inferenceConfig system
    content_index action result logprobs reasoning_details conversation format
    """,
)
KINDS = [
    *("user", "assistant", "tool", "function", "custom", "completed", "failed", "error", "thinking"),
    *gemini_messages._PART_READERS,
    *gemini_tools.OFFERS,
    *("STOP", "SAFETY", "model", "AUDIO", "$.a[1].b"),
    *chat_messages._PART_READERS,
    *converse_messages._BLOCK_READERS,
    *responses_messages._PART_READERS,
    *responses_messages._ITEM_READERS,
    *responses_stream._DELTAS,
    *responses_stream._FINAL.values(),
    *anthropic_messages._READERS,
    *anthropic_stream._JOINED,
    *("message_start", "content_block_start", "content_block_delta", "message_delta", "citations_delta", "base64"),
    *("response.created", "response.output_item.added", "response.output_item.done"),
]


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(KEYS) | texts
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5)


any_json = st.recursive(scalars | st.sampled_from(KINDS), nested, max_leaves=12)
any_object = st.dictionaries(st.sampled_from(KEYS) | texts, any_json, max_size=6)


def shape(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    """An object with these keys, some more, and sometimes a key that nobody knows."""
    fixed = {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in required.items()}
    return st.fixed_dictionaries(fixed, optional={**optional, "x_unknown": any_json})


cache_control = st.just({"type": "ephemeral"})
json_text = st.sampled_from(['{"city": "Oslo"}', "{}", '{"a":  1}', "", "not json", "[1, 2]"])
ids = st.sampled_from(["call_1", "call_2", "call_3"])
urls = st.sampled_from(["https://host/image.png", "data:image/png;base64,AAAA", "data:,x"])

chat_part = st.one_of(
    shape({"type": "text", "text": texts}, cache_control=cache_control),
    shape({"type": "image_url", "image_url": shape({"url": urls}, detail=st.just("low"))}),
    shape({"type": "input_audio", "input_audio": st.just({"data": "AAAA", "format": "wav"})}),
    shape({"type": "file", "file": shape({"file_data": urls}, filename=words, file_id=ids)}),
    shape({"type": "thinking", "thinking": st.just([{"type": "text", "text": "hm"}])}),
    any_object,
)
chat_content = st.none() | texts | st.lists(chat_part, max_size=3)
chat_call = st.one_of(
    shape({"id": ids, "type": "function", "function": shape({"name": words, "arguments": json_text})}),
    shape({"id": ids, "type": "custom", "custom": shape({"name": words, "input": texts})}),
)
chat_assistant = shape(
    {"role": "assistant"},
    content=chat_content,
    tool_calls=st.lists(chat_call, max_size=3),
    reasoning_content=texts,
    reasoning=texts,
    refusal=texts,
    name=words,
    function_call=st.just({"name": "old", "arguments": "{}"}),
    audio=st.just({"id": "audio_1"}),
)
chat_message = st.one_of(
    shape({"role": st.sampled_from(["user", "system", "developer"]), "content": chat_content}, name=words),
    chat_assistant,
    shape({"role": "tool", "tool_call_id": ids, "content": chat_content}),
)
chat_tool = st.one_of(
    shape({"type": "function", "function": shape({"name": words}, description=texts, parameters=any_object)}),
    shape({"type": "custom", "custom": shape({"name": words})}),
    any_object,
)
chat_request = shape(
    {"model": words, "messages": st.lists(chat_message, max_size=5)},
    tools=st.lists(chat_tool, max_size=3),
    temperature=st.floats(0, 2),
    max_tokens=st.integers(1, 9),
    max_completion_tokens=st.integers(1, 9),
    stop=texts | st.lists(texts, max_size=2),
    response_format=st.sampled_from([{"type": "text"}, {"type": "json_schema", "json_schema": {"name": "x"}}]),
    reasoning=st.just({"effort": "low", "exclude": False}),
    stream=st.booleans(),
)
counts = st.integers(0, 99)
chat_usage = shape(
    {"prompt_tokens": counts, "completion_tokens": counts, "total_tokens": counts},
    prompt_tokens_details=st.none() | shape({}, cached_tokens=counts, audio_tokens=counts),
    completion_tokens_details=shape({}, reasoning_tokens=counts),
    prompt_cache_hit_tokens=counts,
)
finish = st.sampled_from(["stop", "length", "tool_calls", None])
chat_response = shape(
    {"id": words, "object": "chat.completion", "created": 1, "model": words},
    choices=st.lists(shape({"message": chat_assistant, "finish_reason": finish}), max_size=3).map(
        lambda choices: [{**choice, "index": index} for index, choice in enumerate(choices)]
    ),
    usage=chat_usage,
    service_tier=words,
)

item_part = st.one_of(
    shape({"type": "output_text", "text": texts}, annotations=st.just([{"type": "url_citation"}])),
    shape({"type": "input_text", "text": texts}),
    shape({"type": "input_image", "image_url": urls}, detail=st.just("auto")),
    shape({"type": "input_file", "file_id": ids}, filename=words),
    shape({"type": "refusal", "refusal": texts}),
)
item_content = st.lists(item_part, max_size=3)
output_item = st.one_of(
    shape({"type": "message", "role": "assistant", "id": words, "content": item_content}, status=words),
    shape(
        {"type": "reasoning", "id": words, "summary": st.lists(st.just({"type": "summary_text", "text": "hm"}))},
        encrypted_content=words,
    ),
    shape({"type": "function_call", "id": words, "call_id": ids, "name": words, "arguments": json_text}),
    shape({"type": "custom_tool_call", "id": words, "call_id": ids, "name": words, "input": texts}),
    shape({"type": "web_search_call", "id": words, "action": st.just({"type": "search", "query": "q"})}),
    shape({"type": "mcp_call", "id": words, "name": words, "arguments": json_text}, output=texts, error=texts),
    shape({"type": "code_interpreter_call", "id": words, "code": texts, "container_id": words}),
    shape({"type": "image_generation_call", "id": words, "result": st.just("AAAA")}),
    shape({"type": "computer_call", "call_id": ids, "action": any_object}),
    shape({"type": "of_the_future", "value": any_json}),
)
input_item = st.one_of(
    shape({"role": st.sampled_from(["user", "assistant", "developer"]), "content": texts | item_content}),
    shape({"type": "function_call_output", "call_id": ids, "output": texts | item_content}),
    shape({"type": "item_reference", "id": words}),
    output_item,
)
responses_request = shape(
    {"model": words, "input": texts | st.lists(input_item, max_size=6)},
    instructions=texts,
    tools=st.lists(shape({"type": "function", "name": words}, description=texts, strict=st.booleans()), max_size=2),
    reasoning=shape({}, effort=words, summary=words),
    text=st.just({"format": {"type": "json_schema", "name": "x"}, "verbosity": "low"}),
    max_output_tokens=st.integers(1, 9),
    conversation=st.sampled_from(["conv_1", {"id": "conv_1"}]),
)
responses_response = shape(
    {
        "id": words,
        "model": words,
        "status": st.sampled_from(["completed", "incomplete", "failed", "in_progress", "cancelled"]),
        "output": st.lists(output_item, max_size=5),
    },
    incomplete_details=st.just({"reason": "max_output_tokens"}),
    usage=shape({"input_tokens": counts}, input_tokens_details=shape({}, cached_tokens=counts)),
)

ollama_call = shape({"function": shape({"name": words, "arguments": any_object})}, id=ids)
ollama_answer = shape(
    {"role": "assistant", "content": texts},
    thinking=texts,
    tool_calls=st.lists(ollama_call, max_size=3),
    images=st.lists(words, max_size=2),
)
ollama_message = st.one_of(
    shape({"role": st.sampled_from(["user", "system"]), "content": texts}, images=st.lists(words, max_size=2)),
    ollama_answer,
    shape({"role": "tool", "content": texts}, tool_name=words, tool_call_id=ids),
)
ollama_request = shape(
    {"model": words, "messages": st.lists(ollama_message, max_size=5)},
    tools=st.lists(chat_tool, max_size=3),
    options=shape({}, temperature=st.floats(0, 2), num_predict=counts, stop=st.lists(texts, max_size=2)),
    format=st.just("json") | any_object,
    think=st.booleans() | words,
    keep_alive=words,
    stream=st.booleans(),
)
ollama_response = shape(
    {"model": words, "created_at": "2026-01-01T00:00:00Z", "message": ollama_answer, "done": True},
    done_reason=st.sampled_from(["stop", "length"]),
    prompt_eval_count=counts,
    eval_count=counts,
    total_duration=counts,
)

conversation_text = shape({"type": "text", "text": texts})
conversation_said = texts | st.lists(conversation_text, max_size=3)
conversation_entry = st.one_of(
    shape({"type": "message.output", "role": "assistant", "content": conversation_said}, model=words),
    shape({"type": "function.call", "tool_call_id": ids, "name": words, "arguments": json_text}),
    shape({"type": "tool.execution", "id": ids, "name": words, "arguments": json_text}, info=any_object),
    shape({"type": "agent.handoff", "id": ids}),
)
conversation_input = st.one_of(
    conversation_entry,
    shape({"role": "user", "content": conversation_said}, type=st.just("message.input")),
    shape({"type": "function.result", "tool_call_id": ids, "result": texts}),
)
conversation_request = shape(
    {"inputs": texts | st.lists(conversation_input, max_size=5)},
    model=words,
    instructions=texts,
    completion_args=shape(
        {"temperature": st.floats(0, 1)}, random_seed=st.integers(0, 9), max_tokens=st.integers(0, 9)
    ),
    stream=st.booleans(),
)
conversation_response = shape(
    {"object": "conversation.response", "conversation_id": ids, "outputs": st.lists(conversation_entry, max_size=4)},
    usage=shape({"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)}),
)

cohere_part = st.one_of(
    shape({"type": "text", "text": texts}),
    shape({"type": "thinking", "thinking": texts}),
    shape({"type": "image_url", "image_url": shape({"url": urls}, detail=st.just("low"))}),
    shape({"type": "document", "document": any_object}),
)
cohere_content = texts | st.lists(cohere_part, max_size=3)
cohere_call = shape({"id": ids, "type": "function", "function": shape({"name": words, "arguments": json_text})})
cohere_answer = shape(
    {"role": "assistant"},
    content=st.lists(
        shape({"type": "text", "text": texts}) | shape({"type": "thinking", "thinking": texts}), max_size=3
    ),
    tool_plan=texts,
    tool_calls=st.lists(cohere_call, max_size=3),
)
cohere_message = st.one_of(
    shape({"role": st.sampled_from(["user", "system"]), "content": cohere_content}),
    shape(
        {"role": "assistant", "content": cohere_content}, tool_plan=texts, tool_calls=st.lists(cohere_call, max_size=3)
    ),
    shape({"role": "tool", "tool_call_id": ids, "content": cohere_content}),
)
cohere_request = shape(
    {"model": words, "messages": st.lists(cohere_message, max_size=5)},
    tools=st.lists(chat_tool, max_size=3),
    temperature=st.floats(0, 2),
    max_tokens=counts,
    p=st.floats(0, 1),
    stop_sequences=st.lists(texts, max_size=2),
    tool_choice=st.sampled_from(["REQUIRED", "NONE"]),
    stream=st.booleans(),
)
cohere_usage = shape(
    {"tokens": shape({"input_tokens": counts, "output_tokens": counts})},
    billed_units=shape({"input_tokens": counts}),
    cached_tokens=counts,
)
cohere_response = shape(
    {"id": words, "message": cohere_answer},
    finish_reason=st.sampled_from(["COMPLETE", "TOOL_CALL", "MAX_TOKENS"]),
    usage=cohere_usage,
)
cohere_v1_call = shape({"name": words, "parameters": any_object})
cohere_v1_turn = st.one_of(
    shape({"role": st.sampled_from(["USER", "SYSTEM"]), "message": texts}),
    shape({"role": "CHATBOT", "message": texts}, tool_calls=st.lists(cohere_v1_call, max_size=2)),
    shape(
        {
            "role": "TOOL",
            "tool_results": st.lists(
                shape({"call": cohere_v1_call, "outputs": st.lists(any_object, max_size=2)}), max_size=2
            ),
        }
    ),
)
cohere_v1_request = shape(
    {"message": texts},
    model=words,
    preamble=texts,
    chat_history=st.lists(cohere_v1_turn, max_size=5),
    tools=st.lists(shape({"name": words, "description": texts}, parameter_definitions=any_object), max_size=2),
    temperature=st.floats(0, 2),
    stream=st.booleans(),
)
cohere_v1_response = shape(
    {"text": texts, "generation_id": words},
    finish_reason=st.sampled_from(["COMPLETE", "MAX_TOKENS"]),
    tool_calls=st.lists(cohere_v1_call, max_size=2),
    meta=cohere_usage,
)

sources = st.one_of(
    shape({"type": "base64", "media_type": "image/png", "data": "AAAA"}),
    shape({"type": "url", "url": "https://host/page.pdf"}),
    shape({"type": "file", "file_id": ids}),
    shape({"type": "text", "media_type": "text/plain", "data": texts}),
)
inputs = st.dictionaries(words, scalars, max_size=2)
said_block = st.one_of(
    shape({"type": "text", "text": texts}, cache_control=cache_control, citations=st.just([{"type": "page_location"}])),
    shape(
        {"type": st.sampled_from(["image", "document"]), "source": sources}, title=words, cache_control=cache_control
    ),
    shape({"type": "search_result", "source": texts, "content": []}),
    any_object,
)
told = st.none() | texts | st.lists(said_block, max_size=2)
result_block = shape(
    {"type": "tool_result", "tool_use_id": ids, "content": told}, is_error=st.booleans(), cache_control=cache_control
)
answer_block = st.one_of(
    shape({"type": "text", "text": texts}, citations=st.just([{"type": "web_search_result_location", "url": "u"}])),
    shape({"type": "thinking", "thinking": texts, "signature": words}),
    shape({"type": "redacted_thinking", "data": words}),
    shape({"type": "tool_use", "id": ids, "name": words, "input": inputs}, caller=st.just({"type": "direct"})),
    shape({"type": "server_tool_use", "id": ids, "name": words, "input": inputs}),
    shape({"type": "mcp_tool_use", "id": ids, "name": words, "input": inputs, "server_name": words}),
    shape({"type": "mcp_tool_result", "tool_use_id": ids, "is_error": st.booleans(), "content": told}),
    shape({"type": "web_search_tool_result", "tool_use_id": ids, "content": any_json}),
    shape({"type": "of_the_future", "value": any_json}),
)
messages_message = st.one_of(
    shape({"role": "user", "content": texts | st.lists(said_block | result_block, max_size=3)}),
    shape({"role": "user", "content": st.lists(result_block, min_size=1, max_size=2)}),
    shape({"role": "assistant", "content": texts | st.lists(answer_block, max_size=4)}),
    shape({"role": "system", "content": texts}),
)
messages_tool = st.one_of(
    shape({"name": words, "input_schema": any_object}, description=texts, cache_control=cache_control),
    shape({"type": "web_search_20250305", "name": "web_search"}, max_uses=st.integers(1, 9)),
    shape({"type": "mcp_toolset", "mcp_server_name": words}),
)
messages_request = shape(
    {"model": words, "max_tokens": 9, "messages": st.lists(messages_message, max_size=5)},
    system=texts | st.lists(shape({"type": "text", "text": texts}, cache_control=cache_control), max_size=2),
    tools=st.lists(messages_tool, max_size=3),
    temperature=st.floats(0, 1),
    stop_sequences=st.lists(texts, max_size=2),
    thinking=st.just({"type": "enabled", "budget_tokens": 1024}),
    output_config=shape({}, effort=words, format=st.just({"type": "json_schema", "schema": {}})),
    metadata=shape({}, user_id=words),
    stream=st.booleans(),
)
messages_response = shape(
    {
        "id": words,
        "type": "message",
        "role": "assistant",
        "model": words,
        "content": st.lists(answer_block, max_size=5),
        "stop_reason": st.sampled_from(["end_turn", "tool_use", "max_tokens", "pause_turn", "refusal", None]),
        "stop_sequence": st.none(),
    },
    usage=shape(
        {"input_tokens": counts, "output_tokens": counts},
        cache_read_input_tokens=st.none() | counts,
        cache_creation_input_tokens=counts,
        output_tokens_details=shape({}, thinking_tokens=counts),
        service_tier=words,
    ),
    container=shape({"id": ids}),
)
converse_source = st.sampled_from([{"bytes": "AAAA"}, {"s3Location": {"uri": "s3://bucket/key"}}, {}])
converse_result = st.one_of(
    shape({"text": texts}),
    st.fixed_dictionaries({"json": any_json}),
    shape({"image": shape({"format": st.just("png"), "source": converse_source})}),
)
converse_said = st.one_of(
    shape({"text": texts}),
    st.fixed_dictionaries({"reasoningContent": st.just({"reasoningText": {"text": "hm", "signature": "sig"}})}),
    st.fixed_dictionaries({"reasoningContent": st.just({"redactedContent": "AAAA"})}),
    st.fixed_dictionaries(
        {"toolUse": st.fixed_dictionaries({"toolUseId": ids, "name": words, "input": any_object})},
    ),
)
converse_block = st.one_of(
    converse_said,
    shape({"image": shape({"format": st.just("png"), "source": converse_source})}),
    shape({"document": shape({"format": st.just("txt"), "name": words, "source": converse_source})}),
    shape({"guardContent": shape({"text": shape({"text": texts}, qualifiers=st.just(["query"]))})}),
    shape(
        {"toolResult": shape({"toolUseId": ids, "content": st.lists(converse_result, max_size=2)}, status=words)},
    ),
    st.just({"cachePoint": {"type": "default"}}),
    shape({"of_the_future": any_json}),
)
converse_message = shape(
    {"role": st.sampled_from(["user", "assistant"]), "content": st.lists(converse_block, max_size=3)}
)
converse_tool = st.one_of(
    shape({"toolSpec": shape({"name": words, "inputSchema": st.just({"json": {}})}, description=texts)}),
    st.just({"systemTool": {"name": "nova_grounding"}}),
    st.just({"cachePoint": {"type": "default"}}),
    any_object,
)
converse_request = shape(
    {"model": words, "messages": st.lists(converse_message, max_size=5)},
    system=st.lists(st.one_of(shape({"text": texts}), st.just({"cachePoint": {"type": "default"}})), max_size=2),
    toolConfig=shape({"tools": st.lists(converse_tool, max_size=3)}, toolChoice=st.sampled_from([{"any": {}}, {}])),
    inferenceConfig=shape({}, maxTokens=st.integers(1, 9), topP=st.floats(0, 1), stopSequences=st.lists(texts)),
    additionalModelRequestFields=shape({}, top_k=counts),
    stream=st.booleans(),
)
converse_response = st.fixed_dictionaries(
    {
        "output": st.fixed_dictionaries(
            {
                "message": st.fixed_dictionaries(
                    {"role": st.just("assistant"), "content": st.lists(converse_said, max_size=4)}
                )
            }
        ),
        "stopReason": st.sampled_from(["end_turn", "tool_use", "max_tokens"]),
    },
    optional={
        "usage": shape({"inputTokens": counts, "outputTokens": counts}, cacheReadInputTokens=counts),
        "serviceTier": st.just({"type": "flex"}),
    },
)
objects = st.dictionaries(words, scalars, max_size=2)
signature = st.just("c2lnbmF0dXJl")


def spelled(camel: str, value: Any) -> st.SearchStrategy[dict[str, Any]]:
    """An object of one key, in either spelling."""
    snake = re.sub("([A-Z])", lambda found: "_" + found[1].lower(), camel)
    return st.sampled_from([camel, snake]).flatmap(lambda key: st.fixed_dictionaries({key: value}))


def with_signature(part: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(part, st.builds(lambda a, b: {**a, **b}, part, spelled("thoughtSignature", signature)))


gemini_call = with_signature(spelled("functionCall", shape({"name": words, "args": objects}, id=ids)))
gemini_result = spelled(
    "functionResponse",
    shape(
        {"name": words, "response": st.one_of(objects, shape({"result": texts}), st.just({"error": "no"}))},
        id=ids,
        parts=st.just([{"inlineData": {"mimeType": "image/png", "data": "AA-_"}}]),
    ),
)
gemini_text = with_signature(st.fixed_dictionaries({"text": texts.filter(bool)}, optional={"thought": st.just(True)}))
gemini_part = st.one_of(
    gemini_text,
    gemini_call,
    gemini_result,
    spelled("inlineData", shape({"mimeType": st.sampled_from(["image/png", "audio/wav"]), "data": st.just("AA-_")})),
    spelled("fileData", shape({"fileUri": urls}, mimeType=st.just("video/mp4"))),
    spelled("executableCode", shape({"language": st.just("PYTHON"), "code": texts})),
    spelled("codeExecutionResult", shape({"outcome": st.just("OUTCOME_OK"), "output": texts})),
    shape({"toolCall": shape({"toolType": words}, id=ids)}),
    any_object,
)
gemini_content = shape(
    {"parts": st.lists(gemini_part, max_size=3)}, role=st.sampled_from(["user", "model", "function"])
)
gemini_declared = shape({"name": words}, description=texts, parameters_json_schema=any_object, parameters=any_object)
gemini_tool = st.one_of(
    spelled("functionDeclarations", st.lists(gemini_declared, max_size=3)),
    st.sampled_from([{"googleSearch": {}}, {"code_execution": {}}, {"urlContext": {}, "googleMaps": {}}]),
    any_object,
)
gemini_request = shape(
    {"model": words, "contents": st.lists(gemini_content, max_size=5)},
    tools=st.lists(gemini_tool, max_size=3),
    generationConfig=shape(
        {}, temperature=st.floats(0, 2), maxOutputTokens=st.integers(1, 9), top_p=st.floats(0, 1), stopSequences=texts
    ),
    system_instruction=gemini_content,
    toolConfig=shape({}, functionCallingConfig=shape({"mode": st.sampled_from(["ANY", "AUTO"])})),
    stream=st.booleans(),
)


def apart(parts: list[Any]) -> list[Any]:
    """Parts of an answer in which no text stands beside another: in a stream those are one."""
    found: list[Any] = []
    for part in parts:
        if not (found and "text" in part and "text" in found[-1]):
            found.append(part)
    return found


gemini_usage = shape(
    {"promptTokenCount": counts, "totalTokenCount": counts},
    candidatesTokenCount=counts,
    thoughtsTokenCount=counts,
    toolUsePromptTokenCount=counts,
    cachedContentTokenCount=counts,
    promptTokensDetails=st.lists(shape({"modality": st.sampled_from(["AUDIO", "TEXT"]), "tokenCount": counts})),
)
gemini_candidate = shape(
    {
        "content": shape({"role": st.just("model"), "parts": st.lists(st.one_of(gemini_text, gemini_call)).map(apart)}),
        "finishReason": st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "OF_THE_FUTURE"]),
    },
    avgLogprobs=st.floats(-2, 0),
    groundingMetadata=shape({"webSearchQueries": st.lists(words)}),
)
gemini_response = shape(
    {
        "candidates": st.lists(gemini_candidate, min_size=1, max_size=3).map(
            lambda candidates: [{**candidate, "index": index} for index, candidate in enumerate(candidates)]
        )
    },
    usageMetadata=gemini_usage,
    modelVersion=words,
    responseId=ids,
)
