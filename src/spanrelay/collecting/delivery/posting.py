"""A server over HTTP: each document is an event of CloudEvents 1.0, in the binary mode of its HTTP binding.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md; `Idempotency-Key` is as
draft-ietf-httpapi-idempotency-key-header has it, a string of RFC 8941.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from spanrelay._retrying import retry_after_in
from spanrelay.collecting.delivery.targets import Parcel, outcome_of
from spanrelay.exporters.bodies import bound_answers
from spanrelay.exporters.outbox import Answer, Outcome
from spanrelay.exporters.redirects import Reply, Route, shown, status_text

_SECONDS = 30.0
_SAID = 200
"""Characters of an answer that are told with the reason."""


class Webhook:
    """Posts documents to a URL; redirects are followed on the same host alone.

    Args:
        url: Where to.
        headers: Sent with each, credentials for instance.
    """

    takes_media = False

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._url, self._headers = url, dict(headers or {})
        self._here = threading.local()

    @property
    def name(self) -> str:
        """The address, without what may be a credential."""
        return shown(self._url)

    def send(self, parcel: Parcel) -> Answer:
        """Post a document, or that it was removed."""
        import requests

        headers = {**headers_of(parcel), **self._headers}

        def post(url: str) -> Any:
            return self._session().post(
                url, data=parcel.data or b"", headers=headers, timeout=_SECONDS, allow_redirects=False
            )

        try:
            answer, refusal = self._route().send(
                self._url, post, lambda answer: Reply(answer.status_code, answer.headers.get("location"))
            )
        except requests.RequestException as error:  # whose words may have a credential in them
            return Answer(Outcome.RETRY, f"{self.name} cannot be reached: {type(error).__name__}")
        said = " ".join(answer.text.split())[:_SAID]
        reason = refusal or ": ".join(filter(None, (f"{self.name} answered {status_text(answer.status_code)}", said)))
        return Answer(outcome_of(answer.status_code), reason, retry_after_in(answer.headers.get("retry-after")))

    def _session(self) -> Any:
        if not hasattr(self._here, "session"):
            import requests

            self._here.session = requests.Session()
            bound_answers(self._here.session)
        return self._here.session

    def _route(self) -> Route:
        if not hasattr(self._here, "route"):
            self._here.route = Route()
        return self._here.route


def headers_of(parcel: Parcel) -> dict[str, str]:
    """Return the headers that say what a request is of.

    `ce-subject` is the document, whenever it is sent. `ce-id` is this version of it: the same when it is sent again
    after an answer was lost, and another when it has been written again.
    """
    version = hashlib.sha256(b"%b@%d %b" % (parcel.name.encode(), parcel.time, parcel.data or b"")).hexdigest()[:32]
    when = datetime.fromtimestamp(parcel.time / 1e9, timezone.utc)
    return {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-type": f"spanrelay.trajectory.{'removed' if parcel.data is None else 'written'}",
        "ce-source": "/spanrelay/collect",
        "ce-subject": parcel.name,
        "ce-id": version,
        "ce-time": when.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "idempotency-key": f'"{version}"',
    }
