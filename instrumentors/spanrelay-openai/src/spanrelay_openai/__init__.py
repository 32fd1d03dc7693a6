"""SpanRelay instrumentor for the OpenAI Python SDK."""
