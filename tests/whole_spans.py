"""Whole spans against a golden: everything that they say but their times, in both dialects, with content and without.

`SPANRELAY_TEST_WRITE_GOLDENS=1` writes the golden anew; look at what changed in it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay.semconv import names
from spanrelay_testkit.capture import Capture, at_work, captured

FORMS = {
    f"{dialect}, {'content' if content else 'no content'}": {"dialect": dialect, "content": content}
    for dialect in ("genai", "openinference")
    for content in (True, False)
}
each_form = pytest.mark.parametrize("form", FORMS)

_LONG = 400
_MEASURED = frozenset({names.SERVER_PORT, names.TIME_TO_FIRST_CHUNK})
_RANDOM = re.compile(r"\b[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b")


@contextmanager
def recorded(form: str, *kinds: Callable[[], BaseInstrumentor]) -> Iterator[Capture]:
    """Record in a form with instrumentors of these kinds."""
    with captured(**FORMS[form]) as capture, at_work(capture, *kinds):  # type: ignore[arg-type] - each form is of both
        yield capture


def check(golden: Path, form: str, capture: Capture, **replaced: str) -> None:
    """Compare the spans with those of the golden.

    Args:
        golden: A JSON object of lists of spans, by form.
        form: Of `FORMS`.
        capture: Holds the spans; the ids of its traces and spans are counted.
        replaced: What stands for texts that are another each time, by name.
    """
    spans = sorted(capture.spans, key=lambda span: span.get_span_context().span_id)  # type: ignore[union-attr] - it has one
    text = json.dumps([_whole(span) for span in spans], ensure_ascii=False)
    for name, each in replaced.items():
        text = text.replace(each, f"<{name}>")
    found = json.loads(_RANDOM.sub("<random>", text))
    kept = json.loads(golden.read_text()) if golden.exists() else {}
    if os.environ.get("SPANRELAY_TEST_WRITE_GOLDENS") == "1":
        kept[form] = found
        golden.write_text(_lines(kept))
    assert found == kept.get(form), f"not as in {golden.name}"


def _lines(forms: dict[str, list[Any]]) -> str:
    """Return the JSON of a golden with a span on each line."""
    lists = (
        f"{json.dumps(form)}: [\n" + ",\n".join(json.dumps(span, ensure_ascii=False) for span in spans) + "\n]"
        for form, spans in forms.items()
    )
    return "{\n" + ",\n".join(lists) + "\n}\n"


def _whole(span: ReadableSpan) -> dict[str, Any]:
    context, scope = span.get_span_context(), span.instrumentation_scope
    assert context is not None and scope is not None and span.start_time is not None and span.end_time is not None
    assert span.start_time <= span.end_time
    return {
        "name": span.name,
        "kind": span.kind.name,
        "status": [span.status.status_code.name, span.status.description],
        "ids": [context.trace_id, context.span_id, span.parent and span.parent.span_id],
        "scope": scope.name,
        "events": [[event.name, _attributes(event.attributes)] for event in span.events],
        "links": len(span.links),
        "attributes": _attributes(span.attributes),
    }


def _attributes(attributes: Any) -> dict[str, Any]:
    return {name: _shown(name, value) for name, value in sorted((attributes or {}).items())}


def _shown(name: str, value: Any) -> Any:
    """Long texts are what a framework writes for its models, and another in each of its versions."""
    if name in _MEASURED:
        return "<number>"
    return "<long>" if isinstance(value, str) and len(value) > _LONG else value
