"""The proof that nothing is lost on the long way, at any size: `python -m tests.collecting.proof SPANS KILLS [SEED]`.

Captures of real programs and made-up sessions go through the real collector and a real broker to two assemblers, of
which one or the other is killed again and again, while it works. What they leave is what `spanrelay convert` makes of
the same requests, byte for byte. The moments of the kills are drawn by SEED; how far the others are by then is not.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.collecting.test_collecting import documents_in
from tests.collecting.test_kafka import assembler, trace_of
from tests.e2e.collector import Collector
from tests.shared_data import SHARED

from spanrelay._masking import mask_bytes
from spanrelay.conversion import work
from spanrelay.conversion.documents import Folder
from spanrelay.otlp_in import files
from spanrelay.otlp_in.files import Piece
from spanrelay.otlp_in.telemetry import Span, TranscriptLine
from spanrelay.otlp_in.writing import request_of
from spanrelay.semconv.fields import session_of
from spanrelay_testkit.kafka_broker import Broker, running

TOPIC = "otlp_spans"
_BUILD = Path(__file__).parents[2] / "collector-config" / "build"
_IN_A_REQUEST = 25
_LONG = 8
"""Sessions that go on from the first kill to the last."""
_STUCK_S = 300.0
"""Seconds without any new document after which it has failed: in a folder that is not yet what is wanted."""
_ASIDE = frozenset({"openinference_langchain+openinference_openai"})
"""Captures with traces that name no session and lie within one: in another partition, and told in docs/scale.md."""


@dataclass(frozen=True)
class Sent:
    """An export request as it is sent: to `/v1/` and the signal, in JSON or protobuf."""

    data: bytes
    spans: int
    signal: str = "traces"

    @property
    def kind(self) -> str:
        """Its content type."""
        return "application/json" if self.data.startswith(b"{") else "application/x-protobuf"


def captures() -> list[list[Sent]]:
    """Return what real programs sent, as OTLP in JSON: a list for each; none where there are no captures."""
    if SHARED is None:
        return []
    found = [*(SHARED / "spans").glob("*.json"), *(SHARED / "spans-polyglot").glob("*.jsonl")]
    wanted = (path for path in sorted(found) if ".metrics" not in path.name and path.stem not in _ASIDE)
    return [_requests_of(path) for path in wanted]


def _requests_of(path: Path) -> list[Sent]:
    if path.suffix == ".json":  # spans as Python's SDK prints them
        [piece] = files.pieces_of(path, print)
        lines = [json.dumps(request_of(_spans_in(piece))).encode()]
    else:
        lines = path.read_bytes().splitlines()
    return [
        Sent(line, len(_spans_in(Piece("", line, True))), "logs" if line.startswith(b'{"resourceLogs"') else "traces")
        for line in lines
    ]


def _spans_in(piece: Piece) -> list[Span]:
    return [item for item in files.read(piece, print) if isinstance(item, Span)]


def copy_of(capture: list[Sent], name: str) -> list[Sent]:
    """Return a capture as another run of such a program would have sent it: of its own traces, session and service."""
    text = b"\n".join(each.data for each in capture).decode()
    traces = set(re.findall(r'"traceId":\s*"([0-9a-fA-F]{32})"', text))
    renamed = {each: hashlib.sha256(f"{name} {each.lower()}".encode()).hexdigest()[:32] for each in traces}
    for each in capture:
        for item in files.read(Piece("", each.data, True), print):
            assert not isinstance(item, TranscriptLine)
            for said in (session_of(item.attributes), str(item.origin.resource["service.name"])):
                if said is not None:
                    renamed[said] = f"{said}-{name}"
    pattern = re.compile("|".join(re.escape(each) for each in sorted(renamed, key=lambda each: -len(each))))
    lines = pattern.sub(lambda found: renamed[found[0]], text).encode().split(b"\n")
    return [Sent(line, each.spans, each.signal) for line, each in zip(lines, capture, strict=True)]


def shares(spans: int, number: int, generator: random.Random) -> Iterator[list[Sent]]:
    """Yield so many shares of about `spans` spans together, each shuffled: captures, then sessions of our own.

    A tenth of what is made up is of sessions that are in every share, and some of two services that name them alike.
    """
    real, trace = captures(), 0
    for share in range(number):
        wanted, sent = spans // number, list[Sent]()
        for copy in range(wanted // (5 * max(1, sum(each.spans for capture in real for each in capture))) or 1):
            sent += [each for n, capture in enumerate(real) for each in copy_of(capture, f"{share}-{copy}-{n}")]
        left, own = wanted - sum(each.spans for each in sent), list[ExportTraceServiceRequest]()
        while len(own) < left:
            trace += 1
            is_long = generator.random() < 0.1
            session = f"long-{trace % _LONG}" if is_long else f"s-{share}-{trace % max(1, left // 20)}"
            own += trace_of(trace, session, service="billing" if trace % 11 == 0 else "agent")
        generator.shuffle(own)
        sent += [_together(own[begin : begin + _IN_A_REQUEST]) for begin in range(0, len(own), _IN_A_REQUEST)]
        generator.shuffle(sent)
        yield sent


def _together(requests: list[ExportTraceServiceRequest]) -> Sent:
    """Return one request of all, as a processor of batches leaves them."""
    request = ExportTraceServiceRequest()
    for each in requests:
        request.MergeFrom(each)
    return Sent(request.SerializeToString(), len(requests))


@dataclass
class Told:
    """What came of it: figures, and the number of documents that there were at each kill."""

    spans: int = 0
    requests: int = 0
    documents: int = 0
    kills: tuple[int, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.spans} spans in {self.requests} requests, {len(self.kills)} kills (at {self.kills} documents), "
            f"{self.documents} documents, byte for byte those of convert, after {self.seconds:.0f} s"
        )


def prove(spans: int, kills: int, seed: int, folder: Path, collect: Callable[[Broker], Collector]) -> Told:
    """Prove it in a folder, by a collector that writes to the broker; raises AssertionError where it is not so."""
    generator, told, begun = random.Random(seed), Told(), time.monotonic()
    runs, wanted = folder / "runs", folder / "wanted"
    (folder / "broker").mkdir()
    with ExitStack() as stack:
        broker = stack.enter_context(running(folder / "broker"))
        admin = AdminClient({"bootstrap.servers": broker.address})
        admin.create_topics([NewTopic(TOPIC, 4, config={"max.message.bytes": "16000000"})])[TOPIC].result(60)
        collector = collect(broker)
        collector.start()
        stack.callback(collector.stop)
        members = [stack.enter_context(assembler(broker, TOPIC, runs)) for _ in range(2)]
        client = stack.enter_context(httpx.Client(timeout=60))
        for sent in shares(spans, kills, generator):
            before = _number_in(runs)
            for each in sent:
                _send(client, collector, each, folder)
                told.spans, told.requests = told.spans + each.spans, told.requests + 1
            await_documents(runs, before + generator.randrange(1, max(2, told.spans // kills // 25)), members)
            victim = generator.randrange(2)
            members[victim].kill()
            told.kills += (_number_in(runs),)
            print(f"kill {len(told.kills)} of {kills}, {told.spans} spans sent", file=sys.stderr)
            members[victim] = stack.enter_context(assembler(broker, TOPIC, runs))
        work.convert([folder / "sent.jsonl", folder / "sent.otlp"], Folder(wanted, mask=mask_bytes))
        names = {path.name for path in wanted.glob("*.json")}
        await_that(runs, lambda: {path.name for path in runs.glob("*.json")} == names, members)
        await_that(runs, lambda: documents_in(runs) == documents_in(wanted), members)
        for each in members:
            each.send_signal(signal.SIGTERM)
            lines = each.communicate(timeout=120)[1].splitlines()
            said = [line for line in lines if not line.endswith("it is tried again")]  # of a broker that is late
            assert (said, each.returncode) == ([], 0), f"a member ended with {each.returncode}: {lines}"
    assert documents_in(runs) == documents_in(wanted), _difference(runs)
    told.documents, told.seconds = len(names), time.monotonic() - begun
    return told


def _send(client: httpx.Client, collector: Collector, sent: Sent, folder: Path) -> None:
    """Send a request, and note it for `convert`."""
    url, kind = f"{collector.url}/v1/{sent.signal}", {"content-type": sent.kind}
    answer = client.post(url, content=sent.data, headers=kind)
    assert answer.status_code == 200, answer.text
    is_json = sent.kind == "application/json"
    with (folder / ("sent.jsonl" if is_json else "sent.otlp")).open("ab") as file:
        file.write(sent.data + b"\n" if is_json else len(sent.data).to_bytes(4, "big") + sent.data)


def _number_in(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.json"))


def await_documents(folder: Path, number: int, members: list[subprocess.Popen[str]]) -> None:
    """Wait until there are so many documents, or as many as there will be while nothing more comes."""
    await_that(folder, lambda: _number_in(folder) >= number, members)


def await_that(folder: Path, ready: Callable[[], bool], members: list[subprocess.Popen[str]]) -> None:
    """Wait for something that the members do; fail where one ends before, or where none writes anything any more."""
    newest, since = 0, time.monotonic()
    while not ready():
        ended = [each.communicate()[1] for each in members if each.poll() is not None]
        assert ended == [], ended
        if (now := folder.stat().st_mtime_ns if folder.exists() else 0) > newest:  # whenever a document is put there
            newest, since = now, time.monotonic()
        assert time.monotonic() - since < _STUCK_S, _difference(folder)
        time.sleep(0.25)


def _difference(folder: Path) -> str:
    """Return how a folder differs from what is wanted beside it."""
    is_there, wanted = documents_in(folder), documents_in(folder.with_name("wanted"))
    differing = sorted(name for name in is_there.keys() | wanted.keys() if is_there.get(name) != wanted.get(name))
    lacking = [name for name in differing if name not in is_there]
    more = [name for name in differing if name not in wanted]
    return f"{len(differing)} differ: {differing[:5]}; lacking: {lacking[:5]}; too many: {more[:5]}"


def main(arguments: list[str]) -> None:
    """Prove it in a temporary folder and print the figures."""
    spans, kills, *seed = map(int, arguments)
    binary = Path(subprocess.run([_BUILD], capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def collect(broker: Broker) -> Collector:
            kafka = {"SPANRELAY_KAFKA_BROKERS": broker.address, "SPANRELAY_KAFKA_TOPIC": TOPIC}
            return Collector(binary, folder / "collector", folder / "collector.log", kafka=kafka)

        print(prove(spans, kills, seed[0] if seed else 1, folder, collect))


if __name__ == "__main__":
    main(sys.argv[1:])
