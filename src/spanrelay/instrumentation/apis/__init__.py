"""What the paths of providers' APIs ask for: a file for each family, for its SDK's instrumentor and for the gateway."""

from __future__ import annotations

from typing import NamedTuple


class Base(NamedTuple):
    """Where a provider is asked: the variable by which its SDKs take a base URL, and the one that they have."""

    variable: str
    url: str


BASES = {
    "openai": Base("OPENAI_BASE_URL", "https://api.openai.com/v1"),
    "anthropic": Base("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "gemini": Base("GOOGLE_GEMINI_BASE_URL", "https://generativelanguage.googleapis.com"),
}
"""By what the gateway calls them."""
