"""Say why nothing arrives, or the wrong thing: what is installed, set and answered here.

Exit status: 0 where all is well, 3 where something may be wrong, 1 where something is, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from spanrelay.cli.outline import Branch, Piece, plural, visible
from spanrelay.cli.printing import print_outline
from spanrelay.doctor.findings import LEVELS, STATUS, Finding, Level, worst

EXAMPLES = (
    "spanrelay doctor",
    "spanrelay doctor --offline --json",
    "spanrelay doctor --bundle doctor.zip",
)

_STYLES: dict[Level, str] = {"pass": "right", "warn": "tool", "fail": "error"}

_NOUNS: dict[Level, str] = {"fail": "failure", "warn": "warning", "pass": "pass"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `doctor` takes."""
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument(
        "--offline", action="store_true", help="send nothing, not even the span that tries the endpoint"
    )
    parser.add_argument(
        "--bundle", metavar="FILE", type=Path, help="write a zip for whoever helps: versions, settings, findings"
    )
    parser.epilog = "exit status: 0 all is well, 3 something may be wrong, 1 something is wrong, 2 wrong usage"


def run(options: argparse.Namespace) -> int:
    """Print what every check finds; returns the exit status.

    Raises:
        SpanRelayError: the bundle cannot be written.
    """
    from spanrelay.doctor import bundle  # what the other commands do not need
    from spanrelay.doctor.table import case_here, examine, prospect

    case = case_here(offline=options.offline)
    findings = list(examine(case))
    if options.json:
        print(as_json(findings, prospect(case)))
    else:
        print_outline(_tree(findings), sys.stdout)
        print(visible(prospect(case)))
    if options.bundle is not None:
        bundle.write(options.bundle, findings, case)
        print(f"{options.bundle} has what was found; its README says what was left out", file=sys.stderr)
    return STATUS[worst(findings)]


def as_json(findings: list[Finding], end: str) -> str:
    """Return findings as `--json` prints them."""
    found = {"status": worst(findings), "findings": [finding.as_json() for finding in findings], "prospect": end}
    return json.dumps(found, indent=2, ensure_ascii=False)


def _tree(findings: list[Finding]) -> Branch:
    counts = Counter(finding.level for finding in findings)
    told = ", ".join(_counted(counts[level], _NOUNS[level]) for level in reversed(LEVELS) if counts[level])
    return Branch([[("spanrelay doctor", "title"), (f"  {told}", "quiet")]], list(map(_branch, findings)))


def _counted(count: int, noun: str) -> str:
    return f"{count} passed" if noun == "pass" else plural(count, noun)


def _branch(finding: Finding) -> Branch:
    head: list[Piece] = [
        (finding.level, _STYLES[finding.level]),
        (f"  {finding.check}: ", "quiet"),
        (visible(finding.what), ""),
    ]
    below = [("why: ", finding.why), ("do: ", finding.cure)] if finding.level != "pass" else []
    return Branch([head], [Branch([[(name, "quiet"), (visible(text), "")]]) for name, text in below if text])
