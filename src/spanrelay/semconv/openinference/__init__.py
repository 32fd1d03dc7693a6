"""OpenInference's conventions: lists are flattened, `llm.input_messages.0.message.role` and so on.

Writing keeps to OpenInference's names except for what it has none for (response id, agent id and version,
time to first chunk, tool type, errors, our own), which keep OpenTelemetry's or ours; reading never raises and
fills only what a record does not hold yet.

What does not survive: instructions apart from the messages (they come back as a leading system message), the
order of text and tool calls within a message, a message's tool results beside other parts (each becomes a
message of its own), whether a result in a message is JSON or an error, server-side tools (they come back as
ordinary ones) and the `type` of a tool call, a message's finish reason and all finish reasons but the first,
the MIME type of a medium at a URL, the name and the file id of a medium that is no document, all but the text
of an embeddings request's messages, the fields of a tool definition that has `raw` (they are read from it), a
response's parameters and error body, and the exact provider and operation where no `gen_ai.*` is beside.
"""

from spanrelay.semconv.openinference.reading import adds_nothing, from_attributes, kind_of, recognises
from spanrelay.semconv.openinference.writing import (
    start_attributes,
    to_attributes,
    write_end_scalars,
    write_start_scalars,
)

__all__ = [
    "adds_nothing",
    "from_attributes",
    "kind_of",
    "recognises",
    "start_attributes",
    "to_attributes",
    "write_end_scalars",
    "write_start_scalars",
]
