"""The inference route of Anthropic's API, by the end of its path."""

from __future__ import annotations

from spanrelay.codecs import anthropic_messages
from spanrelay.instrumentation.targets import Route

ROUTES = {"/v1/messages": Route(anthropic_messages, ends_with_done=False)}
"""The inference route. What is posted elsewhere and names a model is a model call too, of which no more is read."""
