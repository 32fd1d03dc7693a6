"""What a fleet takes of assemblers behind Kafka, of memory and disk, and what gives way first.

What it costs to key, read, look through and write is measured, with the code that does it and without a broker. What a
fleet does to one of its assemblers is then calculated second by second, for two hours: three times as much comes in one
minute of ten, and after the first hour it is killed, and reads again all that may still be needed before it writes.
"""

from __future__ import annotations

import gc
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.assembly import traces_of
from benchmarks.measure import Effort
from benchmarks.results import Result
from spanrelay._masking import mask_bytes
from spanrelay.collecting.intake import Request
from spanrelay.collecting.kafka.keying import Keying
from spanrelay.collecting.kafka.segments import Segments
from spanrelay.collecting.sessions import Sessions, Terms
from spanrelay.conversion.documents import Folder

_SIZE, _CALLS = 1_000, 5
"""Bytes of content in a span, and model calls in a turn, whose trace has one span more."""
_SPANS = 1 + _CALLS
_TRACES = 4_000
_AT_ONCE = 500
"""Records that are read, and then looked through, together."""
_SILENCE = 10.0
_BASE = 100e6
"""Bytes of memory of an assembler that keeps nothing."""
_HOUR = 3_600
_LATE, _AGAIN = 60.0, 600.0
"""Seconds: that a document may be late, and that an assembler may take after a kill."""
_MEMORY, _DISK = 4e9, 200e9
"""Bytes of an assembler."""


@dataclass(frozen=True)
class Costs:
    """Seconds of CPU: to key and to read a span, to look through a trace, to write a span.

    `memory` are the bytes that a trace takes as long as it is kept, `disk` those of a span in the temporary folder.
    """

    key: float
    read: float
    look: float
    write: float
    memory: float
    disk: float


@dataclass(frozen=True)
class Fleet:
    """Sessions open at a time, each with some turns of a trace each in `length` seconds; `keep` is the option."""

    sessions: float = 1_000_000
    turns: int = 3
    length: float = 1_800.0
    keep: float = 3_600.0

    @property
    def traces(self) -> float:
        """Traces that come in a second."""
        return self.sessions * self.turns / self.length

    @property
    def kept(self) -> float:
        """Traces that are kept: from their turn to as long after the last as is kept."""
        return self.traces * (self.length / 2 + self.keep)


@dataclass(frozen=True)
class Course:
    """How an assembler fares: seconds that a document was late at most, and that it took after the kill; bytes."""

    busy: float
    """The share of a core that it used before the kill."""
    late: float
    again: float
    memory: float
    disk: float

    @property
    def holds(self) -> bool:
        """Whether nothing has given way."""
        within = self.memory <= _MEMORY and self.disk <= _DISK
        return within and self.late <= _LATE and self.again <= _AGAIN


def course(costs: Costs, fleet: Fleet, assemblers: int = 1) -> Course:
    """Return how one of some assemblers fares, each of which has one core and an equal share."""
    traces, kept = fleet.traces / assemblers, fleet.kept / assemblers
    rewritten = (fleet.turns + 1) / 2  # times: after each turn all that its session has
    trace = _SPANS * (costs.key + costs.read + rewritten * costs.write) + costs.look
    used = late = waits = 0.0
    again = math.inf
    for second in range(2 * _HOUR):
        if second == _HOUR:
            waits = kept * (_SPANS * costs.read + costs.look)
        waits += traces * trace * (3 if second % 600 < 60 else 1)
        done = min(waits, 1.0)
        waits -= done
        if second < _HOUR:
            used += done
            late = max(late, waits)
        elif waits < 1.0:
            again = min(again, second - _HOUR)
    disk = kept * _SPANS * costs.disk
    return Course(used / _HOUR, late, again, _BASE + kept * costs.memory, disk)


def scale(effort: Effort) -> list[Result]:
    """Measure the costs, and tell what a fleet of a million open sessions takes and what one assembler carries."""
    costs, fleet = _costs(_TRACES if effort.seconds else 100), Fleet()
    assemblers = next(number for number in range(1, 10_000) if course(costs, fleet, number).holds)
    each = course(costs, fleet, assemblers)
    row = f"scale, {fleet.sessions / 1e6:.0f} M sessions open"
    found = [
        Result("scale, 1 KB a span", f"CPU to {what}", "µs", 1e6 * value)
        for what, value in (
            ("key a span", costs.key),
            ("read a span", costs.read),
            ("look through a trace", costs.look),
            ("write a span", costs.write),
        )
    ]
    found += [
        Result("scale, 1 KB a span", "memory for a trace", "KB", costs.memory / 1e3),
        Result("scale, 1 KB a span", "disk for a span", "KB", costs.disk / 1e3),
        Result(row, "spans a second", "", fleet.traces * _SPANS),
        Result(row, "assemblers of one core", "", assemblers),
        Result(row, "of its core each uses", "%", 100 * each.busy),
        Result(row, "memory of each", "GB", each.memory / 1e9),
        Result(row, "disk of each", "GB", each.disk / 1e9),
        Result(row, "a document is late at most", "s", each.late),
        Result(row, "until one that was killed is done again", "s", each.again),
    ]
    return found + [
        Result("scale, one assembler", f"sessions open until {what}", "", _most(costs, gives_way))
        for what, gives_way in _LIMITS.items()
    ]


_LIMITS: dict[str, Callable[[Course], bool]] = {
    f"a document is {_LATE:.0f} s late": lambda found: found.late > _LATE,
    f"it takes {_AGAIN:.0f} s after a kill": lambda found: found.again > _AGAIN,
    f"it has {_MEMORY / 1e9:.0f} GB of memory": lambda found: found.memory > _MEMORY,
    f"it has {_DISK / 1e9:.0f} GB of disk": lambda found: found.disk > _DISK,
}


def _most(costs: Costs, gives_way: Callable[[Course], bool]) -> float:
    """Return how many sessions, in thousands, one assembler carries before something gives way."""
    low, high = 0, 1 << 14
    while high - low > 1:
        middle = (low + high) // 2
        broken = gives_way(course(costs, Fleet(sessions=1e3 * middle)))
        low, high = (low, middle) if broken else (middle, high)
    return 1e3 * low


def _costs(number: int) -> Costs:
    """Measure with so many traces, each a session by itself and a record."""
    data, now = traces_of(_SIZE, _CALLS, number), 0.0
    keying = Keying("spans-0", lambda _, __: None)
    key = _cpu(lambda: [list(keying.add(each, offset, 0.0)) for offset, each in enumerate(data)])
    with tempfile.TemporaryDirectory() as place:
        scratch, out, noted = (Path(place, name) for name in ("scratch", "out", "noted"))
        for folder in (scratch, out, noted):
            folder.mkdir()
        segments, terms = Segments(noted, "spans-0", 0), Terms(silence=_SILENCE)
        folder = Folder(out, overwrite=True, mask=mask_bytes)
        sessions = Sessions(folder, segments, scratch, terms, clock=lambda: now)
        sessions.resume()
        read = look = write = memory = 0.0
        half = number // 2
        for begin in range(0, number, _AT_ONCE):
            if begin == half:
                memory = _resident()
            offsets = range(begin, min(begin + _AT_ONCE, number))
            requests = [Request(data[each], False, segments.number_of(each)) for each in offsets]
            read += _cpu(lambda requests=requests: sessions.gather(requests))
            look += _cpu(sessions.write_due)
            now += _SILENCE
            write += _cpu(sessions.write_due)
        memory = (_resident() - memory) / (number - half)
        disk = sum(path.stat().st_size for path in scratch.iterdir())
        sessions.close()
    spans = number * _SPANS
    return Costs(key / spans, read / spans, look / number, write / spans, max(memory, 0.0), disk / spans)


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _resident() -> float:
    """Return the bytes of memory that this process has."""
    gc.collect()
    [line] = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return 1024.0 * int(line.split()[1])
