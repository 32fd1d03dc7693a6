"""`python -m benchmarks [--json FILE] [--quick] [--peers] [row …]`: measure, and print the table.

Nothing passes or fails here: times depend on the machine, and only ratios of one run mean something.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import assembly, boot, graphs, observation, ours, peers, session
from benchmarks.measure import FULL, QUICK
from benchmarks.results import Result, table

ROWS: dict[str, ours.Row] = {
    "chat-1k": ours.chat_1k,
    "chat-10k": ours.chat_10k,
    "history": ours.history,
    "stream": ours.stream,
    "chunk": ours.chunk,
    "sampled-out": ours.sampled_out,
    "request-intercept": ours.request_intercept,
    "execution-intercept": ours.execution_intercept,
    "guardrail": ours.guardrail,
    "tool": ours.tool,
    "sanitizers": observation.sanitizers,
    "events": observation.events,
    "agent": graphs.agent_sync,
    "agent-async": graphs.agent_async,
    "node": graphs.node,
    "trajectories": ours.trajectories,
    "boot": boot.boot,
    "session": session.session,
    "assembly": assembly.assembly,
}


def main(argv: list[str] | None = None) -> int:
    """Run the rows that were asked for and print their table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there as well")
    parser.add_argument("--quick", action="store_true", help="only prove that every row runs")
    parser.add_argument("--peers", action="store_true", help=f"other instrumentations at {', '.join(peers.ROWS)}")
    chosen = parser.parse_args(argv)
    known = peers.ROWS if chosen.peers else tuple(ROWS)
    unknown = [row for row in chosen.rows if row not in known]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; expected some of {', '.join(known)}")
    measured = (_peers if chosen.peers else _rows)(chosen.rows or known, quick=chosen.quick)
    if chosen.json is not None:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        document = {"measured_on": machine, **measured}
        chosen.json.write_text(json.dumps(document, indent=1, ensure_ascii=False))
    return 0


def _rows(rows: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Measure SpanRelay and print its table; return it as plain data."""
    results: list[Result] = []
    for row in rows:
        print(f"measuring {row} …", file=sys.stderr)
        results += ROWS[row](QUICK if quick else FULL)
    print(table(results))
    return {"results": [result.to_json() for result in results]}


def _peers(rows: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Measure everybody and print their table; return it as plain data."""
    outcomes = peers.run_all(rows, quick=quick)
    print(peers.report(outcomes))
    return {"peers": [outcome.to_json() for outcome in outcomes]}


if __name__ == "__main__":
    sys.exit(main())
