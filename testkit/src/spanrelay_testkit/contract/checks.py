"""What several promises check alike."""

from __future__ import annotations

import re
import traceback

from opentelemetry.sdk.trace import ReadableSpan

from spanrelay.semconv import names
from spanrelay_testkit.capture import said
from spanrelay_testkit.contract.subject import ANSWER


def check_same_error(ours: BaseException, bare: BaseException) -> None:
    """Same type, text and cause, raised at the same line of the SDK."""
    assert (type(ours), without_figures(str(ours))) == (type(bare), without_figures(str(bare)))
    assert list(map(type, ours.args)) == list(map(type, bare.args))  # some hold the response
    assert type(ours.__cause__) is type(bare.__cause__)
    [ours_at], [bare_at] = (
        traceback.extract_tb(ours.__traceback__)[-1:],
        traceback.extract_tb(bare.__traceback__)[-1:],
    )
    assert (ours_at.filename, ours_at.lineno) == (bare_at.filename, bare_at.lineno)


def without_figures(text: str) -> str:
    """A text without the number of its request and the time it took, which some exceptions have in theirs."""
    return re.sub(r"\breq_\d+|\btime taken=[\d.]+", "", text)


def check_stream(span: ReadableSpan, *incomplete: str | None) -> None:
    """The span holds the text so far, and says why there is no more."""
    told = (span.attributes or {}).get(names.INCOMPLETE)
    assert told in incomplete
    text = said(span)
    assert text
    assert text == ANSWER if told is None else ANSWER.startswith(text) and text != ANSWER
