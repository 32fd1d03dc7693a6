"""Say why nothing arrives, or the wrong thing: what is installed, set and answered here, and what a program does.

Exit status: 0 where all is well, 3 where something may be wrong, 1 where something is, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from pathlib import Path

from spanrelay._guard import pass_on
from spanrelay.cli.outline import Branch, Piece
from spanrelay.cli.printing import print_outline
from spanrelay.doctor.findings import LEVELS, STATUS, Finding, Level, worst
from spanrelay.view.facts import plural, visible

EXAMPLES = (
    "spanrelay doctor",
    'spanrelay doctor --app "python app.py" --seconds 60',
    "spanrelay doctor --offline --json",
    "spanrelay doctor --bundle doctor.zip",
)

_STYLES: dict[Level, str] = {"pass": "right", "warn": "tool", "fail": "error"}

_NOUNS: dict[Level, str] = {"fail": "failure", "warn": "warning", "pass": "pass"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `doctor` takes."""
    parser.add_argument(
        "--app", metavar="CMD", type=_command, help='run a program too, and say what it does: --app "python app.py"'
    )
    parser.add_argument(
        "--seconds", metavar="N", type=_seconds, default=20.0, help="how long it may run, at most (default: 20)"
    )
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
        SpanRelayError: the program cannot be started, or the bundle cannot be written.
    """
    try:
        from spanrelay.doctor import bundle  # what the other commands do not need
        from spanrelay.doctor.table import case_here, examine, prospect, try_out
    except Exception as error:  # whatever a broken package raises
        pass_on(error)
        return _show([_broken(error)], "a program started here would record nothing", as_text=not options.json)
    case = case_here(offline=options.offline)
    tried = list(try_out(case, options.app, options.seconds)) if options.app else []
    findings = [*examine(case), *tried]
    status = _show(findings, prospect(case), as_text=not options.json)
    if options.bundle is not None:
        bundle.write(options.bundle, findings, case)
        print(f"{options.bundle} has what was found; its README says what was left out", file=sys.stderr)
    return status


def _show(findings: list[Finding], end: str, *, as_text: bool) -> int:
    """Print what was found; returns the exit status."""
    if as_text:
        print_outline(_tree(findings), sys.stdout)
        print(visible(end))
    else:
        print(as_json(findings, end))
    return STATUS[worst(findings)]


def _broken(error: Exception) -> Finding:
    return Finding(
        "fail",
        f"what SpanRelay is built on cannot be imported: {type(error).__name__}: {error}",
        "nothing can be recorded or checked in this environment",
        "`pip check`, then pip install --force-reinstall spanrelay opentelemetry-sdk opentelemetry-instrumentation",
        "installation",
    )


def _command(text: str) -> list[str]:
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read as a command: {error}") from None
    if not command:
        raise argparse.ArgumentTypeError('expected a command, as in --app "python app.py"')
    return command


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected seconds above 0, not {text!r}")
    return seconds


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
