"""The embeddings wire shape: small vectors that depend on nothing but the input.

Written from the wire alone: no SDK is imported here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from typing import Any

from spanrelay_testkit.exchange import Request

DIMENSIONS = 8


def vector(text: Any, dimensions: int) -> list[float]:
    """Numbers in [-1, 1), each exact in 32 bits, from the digest of the input."""
    digest = hashlib.shake_128(json.dumps(text).encode()).digest(dimensions)
    return [(byte - 128) / 128 for byte in digest]


def inputs(request: Request) -> list[Any]:
    """The inputs one by one: strings, or lists of token numbers."""
    given = request.get("input", "")
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return list(given)


def body(request: Request) -> dict[str, Any]:
    """One vector for each input, as floats or base64, as asked."""
    texts = inputs(request)
    size = int(request.get("dimensions", DIMENSIONS))
    packed = request.get("encoding_format") == "base64"
    tokens = sum(len(text.split()) if isinstance(text, str) else len(text) for text in texts)
    return {
        **(
            {"id": "embd-1"} if request.model.startswith("mistral") else {}
        ),  # Mistral names its answer, OpenAI does not
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": at,
                "embedding": pack(vector(text, size)) if packed else vector(text, size),
            }
            for at, text in enumerate(texts)
        ],
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def pack(numbers: list[float]) -> str:
    """Little-endian 32-bit floats in base64."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
