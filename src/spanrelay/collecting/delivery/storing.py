"""A bucket of S3-compatible object storage: each document is an object, replaced when it is written again.

Credentials, region and endpoint are what the AWS SDK finds: `AWS_ACCESS_KEY_ID`, a profile, the role of a machine or a
pod, and `AWS_ENDPOINT_URL_S3` for storage that is not Amazon's. Extra `spanrelay[s3]`.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
from typing import Any

from spanrelay._retrying import retry_after_in
from spanrelay.collecting.delivery.targets import Parcel, outcome_of
from spanrelay.errors import ConfigurationError
from spanrelay.exporters.outbox import Answer, Outcome

_SECONDS = 30.0
_PASSING = (
    "ExpiredToken",
    "OperationAborted",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "SlowDown",
    "TokenRefreshRequired",
)
"""Codes of errors that go away, though S3 answers some of them by 400, 403 or 409; see its API, Error responses."""


class Bucket:
    """Puts documents, and the media that they name, into a bucket.

    Args:
        bucket: Its name.
        prefix: What the keys begin with, before a slash; "" for nothing.

    Raises:
        ConfigurationError: boto3 is not installed, or finds no credentials or no region.
    """

    takes_media = True

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.name = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._client = _client(self.name)

    def send(self, parcel: Parcel) -> Answer:
        """Put a document into the bucket, or delete it there."""
        from botocore.exceptions import (  # pyright: ignore[reportMissingImports] - comes with the extra
            BotoCoreError,
            ClientError,
            ParamValidationError,
        )

        place: dict[str, Any] = {"Bucket": self._bucket, "Key": self._prefix + parcel.name}
        try:
            if parcel.data is None:
                self._client.delete_object(**place)
            else:
                self._client.put_object(**place, **_content(parcel.name, parcel.data))
        except ClientError as error:
            return _answer(self.name, error.response)
        except ParamValidationError as error:
            return Answer(Outcome.REFUSED, f"{self.name} cannot be asked: {error}")
        except BotoCoreError as error:
            return Answer(Outcome.RETRY, f"{self.name} cannot be reached: {error}")
        return Answer(Outcome.DELIVERED)


def _client(name: str) -> Any:
    try:
        import boto3  # pyright: ignore[reportMissingImports] - comes with the extra
        from botocore.config import Config  # pyright: ignore[reportMissingImports] - as above
        from botocore.exceptions import BotoCoreError  # pyright: ignore[reportMissingImports] - as above
    except ImportError as error:
        raise ConfigurationError(f"--to {name!r} needs boto3: pip install 'spanrelay[s3]'") from error
    settings = {
        "connect_timeout": _SECONDS,
        "read_timeout": _SECONDS,
        "retries": {"total_max_attempts": 1},  # it is sent again from here
        "request_checksum_calculation": "when_required",  # much storage that is not Amazon's knows Content-MD5 alone
    }
    try:
        session = boto3.Session()
        client: Any = session.client("s3", config=Config(**settings))
        if not client.meta.endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn")):
            # As storage that is not Amazon's mostly has it: a name for each bucket takes DNS that knows them.
            client = session.client("s3", config=Config(**settings, s3={"addressing_style": "path"}))
        found = session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"--to {name!r}: the AWS SDK cannot be set up: {error}") from error
    if found is None:
        raise ConfigurationError(f"--to {name!r}: no credentials are found; set AWS_ACCESS_KEY_ID, or AWS_PROFILE")
    return client


def _content(name: str, data: bytes) -> dict[str, Any]:
    md5 = hashlib.md5(data, usedforsecurity=False).digest()  # so that nothing is stored that was changed on its way
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {"Body": data, "ContentType": kind, "ContentMD5": base64.b64encode(md5).decode()}


def _answer(name: str, response: dict[str, Any]) -> Answer:
    """Return what an error that the storage answered says."""
    error, meta = response.get("Error", {}), response.get("ResponseMetadata", {})
    status, code = int(meta.get("HTTPStatusCode") or 0), str(error.get("Code", ""))
    outcome = Outcome.RETRY if code in _PASSING else outcome_of(status)
    reason = f"{name} answered {status} {code}: {error.get('Message', '')}"
    return Answer(outcome, reason, retry_after_in(meta.get("HTTPHeaders", {}).get("retry-after")))
