"""What a program that was run for a moment shows: what was started, patched, recorded, lost and told twice."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from spanrelay._masking import mask_text
from spanrelay.assembly.duplicates import Sighting, contains, relate
from spanrelay.doctor.findings import Case, Finding
from spanrelay.doctor.launcher import is_same
from spanrelay.doctor.trial import Ran
from spanrelay.otlp_in.records import record_of
from spanrelay.plugins.policy.names import MODELS
from spanrelay.records import SpanRecord

CHECK = "app"

_COMPARED = 200
"""Model calls, at most, that are compared with each other."""

_CONTENT = re.compile(
    r"gen_ai\.(?:input\.messages|output\.messages|system_instructions|prompt|completion)"
    r"|gen_ai\.tool\.call\.(?:arguments|result)|llm\.(?:input|output)_messages|(?:input|output)\.value"
    r"|traceloop\.entity\.(?:input|output)|http\.(?:request|response)\.header\.(?:authorization|cookie|x-api-key)"
)
"""How names of attributes begin that hold what people, models and tools said, or keys."""


def read(ran: Ran, case: Case) -> Iterator[Finding]:
    """Yield what a run shows."""
    yield _ended(ran)
    launched = list(_not_launched(ran))
    yield from launched
    if launched:
        return
    records = [record_of(span) for span in ran.spans]
    calls = sorted((record for record in records if record.kind in MODELS), key=lambda record: record.start)
    yield from _instrumented(ran)
    yield from _arrived(ran, case, calls)
    yield from _past(ran)
    yield from _parents(ran, records)
    yield from _alone(ran, records)
    yield from _twice(ran, records, calls)
    yield from _told(ran, case)
    yield from _said(ran)


def _ended(ran: Ran) -> Finding:
    if ran.stopped:
        return Finding("pass", f"the program was stopped after {ran.seconds:g} s; --seconds gives it longer")
    if ran.status == 0:
        return Finding("pass", "the program ended with 0")
    how = f"was ended by signal {-ran.status}" if ran.status < 0 else f"ended with {ran.status}"
    return Finding(
        "warn",
        f"the program {how}",
        "what it would have done next is not seen here, and a signal that cannot be handled takes what was not sent",
        "run it by itself to see what it prints",
    )


def _not_launched(ran: Ran) -> Iterator[Finding]:
    """Say why the launcher has not reached the program; nothing where it has."""
    missing = ran.noted("missing")
    if missing:
        yield Finding(
            "fail",
            f"the program runs by {missing[0].get('python')}, which has no SpanRelay: {missing[0].get('why')}",
            "nothing of it is recorded",
            "install SpanRelay there, or start the program by the Python that has it",
        )
    elif any("Failed to auto initialize" in line for line in ran.said):
        yield Finding(
            "fail",
            "OpenTelemetry's launcher failed as the program started",
            "the program ran without any instrumentation",
            "run it under opentelemetry-instrument by itself: the traceback says which package failed",
        )
    elif not ran.noted("begun") and ran.stopped:
        yield Finding(
            "warn",
            "nothing was heard of the program before it was stopped",
            "it had not begun by then, or the launcher does not reach it",
            "give it longer: --seconds",
        )
    elif not ran.noted("begun"):
        yield Finding(
            "fail",
            "the launcher has not reached the program: it ran as if nothing were installed",
            "the launcher works by PYTHONPATH, which `python -I` and `-E`, `sudo`, a cleared environment and a Python "
            "that has no OpenTelemetry do not read",
            "start it without these, or begin it with: import spanrelay; spanrelay.activate()",
        )


def _instrumented(ran: Ran) -> Iterator[Finding]:
    """Say what is in force, and which SDK was imported and is not."""
    for python in sorted({event["python"] for event in ran.noted("begun")}):
        if not is_same(Path(python).parent, Path(sys.executable).parent):
            yield Finding(
                "warn",
                f"the program runs by {python}, in another environment than this doctor",
                "the other checks look at the environment of the doctor",
                f"run the doctor by that Python: {python} -m spanrelay doctor",
            )
    names = sorted({name for event in ran.noted("instrumented") for name in event["names"]})
    yield Finding("pass", f"instrumentors in force: {', '.join(names) or 'none'}")
    patched = {event["package"]: event["patched"] for event in ran.noted("imported")}
    bare = sorted(package for package, is_patched in patched.items() if not is_patched)
    early = {package for event in ran.noted("begun") for package in event["early"]}
    if patched:
        yield Finding("pass", f"SDKs that were imported: {', '.join(sorted(patched))}")
    for package in bare:
        when = ", before any instrumentation" if package in early else ""
        yield Finding(
            "fail",
            f"{package} was imported{when}, and no instrumentor of SpanRelay is in force for it",
            "nothing of it is recorded, and policy does not hold for it",
            f"the check `sdks` says of {package} why",
        )
    for package in sorted(early.difference(bare)):
        yield Finding("pass", f"{package} was imported before its instrumentation, which has caught up with it")


def _arrived(ran: Ran, case: Case, calls: list[SpanRecord]) -> Iterator[Finding]:
    """Say how much arrived; of nothing, why."""
    if ran.spans:
        yield Finding("pass", f"spans that arrived: {len(ran.spans)}, of model calls: {len(calls)}")
        return
    if ran.noted("recording"):
        yield Finding(
            "fail",
            "spans were made, and none arrived",
            "a program that is killed, or ends before its time to send, takes them along; so does a provider of its "
            "own without an exporter",
            "let it end by itself, or by SIGTERM (docs/delivery.md); --seconds gives it longer here",
        )
    elif case.settings.disabled:
        yield Finding("fail", "no span was made: OTEL_SDK_DISABLED is true", "nothing is recorded", "take it out")
    elif any(event["recorded"] for event in ran.noted("asked")):
        yield Finding(
            "fail",
            "models were asked, and no span was made of it: the sampler leaves each trace out",
            "nothing is exported",
            "the check `sampling` says which setting does that",
        )
    elif not ran.noted("imported") and ran.status and not ran.stopped:
        yield Finding(
            "fail",
            "no span was made: the program ended before it imported an SDK that SpanRelay knows",
            "what fails at once asks no model",
            "run it by itself to see what it prints, and the doctor once it works",
        )
    elif not ran.noted("imported"):
        yield Finding(
            "fail",
            "no span was made: the program imports no SDK that SpanRelay knows",
            "only what an instrumentor knows is recorded by itself",
            "use an SDK of docs/providers.md, or say what is done in code (docs/scopes.md)",
        )
    else:
        yield Finding(
            "warn",
            "no span was made: no model was asked as long as the program ran, or the sampler leaves each trace out",
            "there is nothing to send",
            "let it do some work: --seconds, or a command that asks a model at once",
        )


def _past(ran: Ran) -> Iterator[Finding]:
    """Say of requests to providers that nobody recorded."""
    asked = Counter(event["provider"] for event in ran.noted("asked") if not event["recorded"])
    for provider, count in sorted(asked.items()):
        yield Finding(
            "fail",
            f"requests to {provider} past every instrumentor: {count}",
            "these calls are in no trace, and policy does not hold for them",
            "use an SDK that SpanRelay instruments, or wrap the request in spanrelay.run_model (docs/policy.md)",
        )


def _parents(ran: Ran, records: list[SpanRecord]) -> Iterator[Finding]:
    """Say of spans whose parent has not arrived."""
    there = {(span.trace_id, span.span_id) for span in ran.spans}
    orphans = [
        each
        for each in records
        if each.parent_id is not None and not each.remote_parent and (each.trace_id, each.parent_id) not in there
    ]
    if orphans:
        scopes = ", ".join(sorted({each.scope_name or "?" for each in orphans}))
        yield Finding(
            "warn" if ran.stopped else "fail",
            f"spans whose parent has not arrived: {len(orphans)}, of {scopes}",
            "their trace falls apart: the parent was still open at the end, was left out by a sampler or processor, or "
            "is another provider's",
            "let the program end by itself; use one tracer provider (docs/opentelemetry-already.md)",
        )


def _alone(ran: Ran, records: list[SpanRecord]) -> Iterator[Finding]:
    """Say of calls that began a trace of their own beside one that was open on another thread."""
    traces = {event["trace"]: event["beside"] for event in ran.noted("alone")}
    roots = [
        each
        for each in records
        if each.parent_id is None and each.trace_id.to_bytes(16, "big").hex() in traces and each.kind is not None
    ]
    found = [each for each in roots if each.kind in MODELS or each.kind == "tool"]
    if found:
        beside = ", ".join(sorted({traces[each.trace_id.to_bytes(16, "big").hex()] for each in found}))
        yield Finding(
            "warn",
            f"calls that began a trace of their own while a span of {beside} was open on another thread: {len(found)}",
            "the context was lost on the way to that thread, as through a queue to a worker that had been started "
            "before: such calls are in no run of their agent",
            "take contextvars.copy_context() where the work is handed over, and context.run(work) in the thread",
        )


def _twice(ran: Ran, records: list[SpanRecord], calls: list[SpanRecord]) -> Iterator[Finding]:
    """Say of what was told more than once: a span that arrived again, and a call that two instrumentations record."""
    again = sum(count - 1 for count in Counter((span.trace_id, span.span_id) for span in ran.spans).values())
    if again:
        yield Finding(
            "fail",
            f"spans that arrived twice: {again}",
            "two exporters send to one place: the environment's and one that the program adds itself",
            "take one of them out, or set OTEL_TRACES_EXPORTER=none",
        )
    parents = {record.span_id: record.parent_id for record in records}
    pairs = Counter(
        (outer.scope_name or "?", inner.scope_name or "?")
        for one, other in combinations(calls[:_COMPARED], 2)
        for outer, inner in [(one, other) if contains(one, other) else (other, one)]
        if outer.scope_name != inner.scope_name
        and contains(outer, inner)
        and relate(Sighting(outer), Sighting(inner), nested=_is_beneath(inner, outer, parents)) == "same"
    )
    for (outer, inner), count in sorted(pairs.items()):
        yield Finding(
            "fail",
            f"model calls that are told twice, by {outer} and by {inner}: {count}",
            "tokens and costs are counted twice",
            f"switch one of the two off: the program configures {outer if inner.startswith('spanrelay') else inner}, "
            "or OTEL_PYTHON_DISABLED_INSTRUMENTATIONS leaves it out",
        )


def _is_beneath(inner: SpanRecord, outer: SpanRecord, parents: dict[int, int | None]) -> bool:
    at, steps = inner.parent_id, 0
    while at is not None and at != outer.span_id and steps < 100:
        at, steps = parents.get(at), steps + 1
    return at == outer.span_id


def _told(ran: Ran, case: Case) -> Iterator[Finding]:
    """Say of what spans have in them that the settings keep out, and of keys."""
    wanted = case.settings.spans_have_content
    found: dict[str, set[str]] = {}
    keys = 0
    for span in ran.spans:
        texts = [value for value in span.attributes.values() if isinstance(value, str)]
        keys += any(mask_text(text) != text for text in texts)
        names = {match[0] for name in span.attributes if (match := _CONTENT.match(name))}
        if names and not wanted:
            found.setdefault(span.origin.scope or "?", set()).update(names)
    for scope, names in sorted(found.items()):
        yield Finding(
            "fail",
            f"spans of {scope} have message content: {', '.join(sorted(names))}",
            "the settings keep it out of spans, and this instrumentation is not SpanRelay's or was told otherwise",
            _cure_of(scope),
        )
    if wanted and any(_CONTENT.match(name) for span in ran.spans for name in span.attributes):
        yield Finding(
            "warn",
            "spans have message content, as OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT asks for",
            "what people and models said is sent to the collector",
            "set it to trajectories, or use the plugin pii_redaction (docs/pii.md)",
        )
    if keys:
        yield Finding(
            "fail",
            f"spans with a key of a known form in them: {keys}",
            "whoever reads the traces can use it",
            "take it out where the span is made; SpanRelay masks such keys in what passes its own exporters",
        )


def _cure_of(scope: str) -> str:
    if scope.startswith("openinference."):
        return "OPENINFERENCE_HIDE_INPUTS=true and OPENINFERENCE_HIDE_OUTPUTS=true"
    if scope.startswith("opentelemetry.instrumentation."):
        return "TRACELOOP_TRACE_CONTENT=false, where it is OpenLLMetry's"
    return "leave these attributes out where the program sets them, or let a processor take them out"


def _said(ran: Ran) -> Iterator[Finding]:
    """Repeat what SpanRelay said in the program, but for where trajectories are."""
    for line in ran.said[:20]:
        if line.startswith(("trajectories", "no trajectories")):
            continue
        lost = line.startswith("lost or left out")
        yield Finding(
            "fail" if lost else "warn",
            f"in the program: {line}",
            "something was not recorded or not sent" if lost else "SpanRelay says so itself",
            "docs/runbook.md has this line, with what to do",
        )
