"""What a run's spans say, whole: in both dialects, with content and without, and as the README tells it.

Ids are counted, and nothing is left open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from spanrelay_testkit.capture import Capture, captured

Ids = tuple[int, int, "int | None"]
"""Of trace, span and parent, as they are counted."""

_ROW = re.compile(r"^\| `(?P<attribute>[a-z][\w.]+)` \| (?P<genai>\w* ?)\| (?P<openinference>\w* ?)\|", re.MULTILINE)


class Told(NamedTuple):
    """One span of a run, but for its attributes: `marks` are the attributes of its events by their names."""

    name: str
    ids: Ids
    marks: Mapping[str, Mapping[str, Any]]
    kind: str = "INTERNAL"


class SnapshotContract:
    """Derive as `Test…`, supply the hooks, and the spans of one run are looked at whole."""

    scope: ClassVar[tuple[str, str]]
    """Name and version of the instrumentation."""
    ways: ClassVar[Sequence[Callable[..., Any]]]
    """Every way to run it."""
    spans: ClassVar[Sequence[Told]]
    """The spans of the run, in the order of their starts."""
    attributes: ClassVar[Mapping[str, Sequence[Mapping[str, Any]]]]
    """By dialect, those of each span."""
    content: ClassVar[tuple[str, ...]]
    """What the attributes begin with that carry what was said."""
    varying: ClassVar[frozenset[str]] = frozenset()
    """Figures that are others in each run: looked at only for being there, and told as `varies`."""
    readme: ClassVar[Path]
    always_told: ClassVar[frozenset[str]] = frozenset({"error.type", "spanrelay.incomplete"})
    """Attributes in the README that no span here has."""

    def record(self, run: Callable[..., Any], capture: Capture, request: pytest.FixtureRequest) -> None:
        """Do the run one way, instrumented for `capture`."""
        raise NotImplementedError

    def is_shown(self, span: ReadableSpan) -> bool:
        """Whether a span is this package's to show."""
        return True

    def row_of(self, attribute: str) -> str:
        """Return the name that the README's table gives an attribute."""
        return attribute

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test in each dialect, and each way where it asks for one."""
        if "run" in metafunc.fixturenames:
            metafunc.parametrize("run", list(self.ways), ids=[way.__name__ for way in self.ways])
        if "dialect" in metafunc.fixturenames:
            metafunc.parametrize("dialect", list(self.attributes))

    def test_whole_spans(self, run: Any, dialect: str, request: pytest.FixtureRequest) -> None:
        """Each way tells the same, word for word."""
        assert self._seen(run, dialect, request, content=True) == self._expected(dialect, content=True)

    def test_without_content_nothing_of_what_was_said_is_left(
        self, dialect: str, request: pytest.FixtureRequest
    ) -> None:
        """Only what carries content is gone."""
        assert self._seen(self.ways[0], dialect, request, content=False) == self._expected(dialect, content=False)

    def test_the_readme_names_exactly_the_attributes_of_the_spans_and_which_of_them_are_content(
        self, dialect: str
    ) -> None:
        """The table in the README is of this run."""
        rows = list(_ROW.finditer(self.readme.read_text()))
        assert len({row["attribute"] for row in rows}) == len(rows), "an attribute has two rows"
        told = {row["attribute"]: row[dialect].strip() for row in rows if row[dialect].strip()}
        names = {key for attributes in self.attributes[dialect] for key in attributes}
        seen = {self.row_of(key): "content" if key.startswith(self.content) else "yes" for key in names}
        assert told == {**seen, **dict.fromkeys(self.always_told, "yes")}

    def test_the_readme_names_every_mark(self) -> None:
        """Marks have no table, but each has its name, and so has what it says."""
        text = self.readme.read_text()
        for span in self.spans:
            for name, attributes in span.marks.items():
                assert all(f"`{told}`" in text for told in (name, *attributes))

    def _seen(self, run: Any, dialect: str, request: pytest.FixtureRequest, *, content: bool) -> list[dict[str, Any]]:
        with captured(dialect=dialect, content=content) as capture:
            self.record(run, capture, request)
            ordered = sorted(capture.spans, key=lambda span: span.context.span_id if span.context else 0)
            return [self._whole(span) for span in ordered if self.is_shown(span)]

    def _whole(self, span: ReadableSpan) -> dict[str, Any]:
        """Everything a span says."""
        context, scope = span.get_span_context(), span.instrumentation_scope
        assert context is not None and scope is not None and span.start_time is not None and span.end_time is not None
        assert span.start_time < span.end_time
        assert (scope.name, scope.version) == self.scope
        assert list(span.links) == []
        assert span.status.is_unset
        attributes = dict[str, Any](span.attributes or {})
        for name in self.varying & attributes.keys():
            assert isinstance(attributes[name], int | float) and attributes[name] > 0
            attributes[name] = "varies"
        ids = (context.trace_id, context.span_id, span.parent and span.parent.span_id)
        marks = {event.name: dict(event.attributes or {}) for event in span.events}
        return {**Told(span.name, ids, marks, span.kind.name)._asdict(), "attributes": attributes}

    def _expected(self, dialect: str, *, content: bool) -> list[dict[str, Any]]:
        return [
            {
                **span._asdict(),
                "attributes": {
                    key: value for key, value in attributes.items() if content or not key.startswith(self.content)
                },
            }
            for span, attributes in zip(self.spans, self.attributes[dialect], strict=True)
        ]
