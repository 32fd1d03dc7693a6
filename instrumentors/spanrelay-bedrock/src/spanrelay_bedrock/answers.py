"""HTTP responses that policy answers with, for botocore to read as if they had come over the wire."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from spanrelay_bedrock.streams import AsyncKeptBody, KeptBody


def _headers(kind: str, data: bytes) -> dict[str, str]:
    return {"content-type": kind, "content-length": str(len(data))}


class _Nothing:
    """The connection that there is none of."""

    url = ""

    def close(self) -> None:
        """Nothing is open."""


def made(url: str, kind: str, data: bytes) -> Any:
    """Return the response of botocore's that has `data`, of the content type `kind`."""
    response: Any = import_module("botocore.awsrequest").AWSResponse
    return response(url, 200, _headers(kind, data), KeptBody(_Nothing(), data))


def async_made(url: str, kind: str, data: bytes) -> Any:
    """Return the response of aiobotocore's that has `data`."""
    response: Any = import_module("aiobotocore.awsrequest").AioAWSResponse
    return response(url, 200, _headers(kind, data), AsyncKeptBody(_Nothing(), data))
