"""Runs a program for a moment under `opentelemetry-instrument`, with a receiver of its own and someone who looks on.

The program is told by its environment alone. What it prints is not shown: it may be anything.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from spanrelay import _json, config
from spanrelay.coding_agents.agents import found_on_path
from spanrelay.coding_agents.receiver import Receiver
from spanrelay.coding_agents.running import past_proxies
from spanrelay.doctor.findings import Case
from spanrelay.doctor.inside import VARIABLE
from spanrelay.doctor.launcher import LAUNCHER, path_of_launcher
from spanrelay.errors import SpanRelayError
from spanrelay.otlp_in import protobuf
from spanrelay.otlp_in.telemetry import Span, Unreadable

_LEAVE_S = 10.0
"""Seconds that a program has to end once it was asked to; what it has recorded takes up to five."""

_LARGEST = 1 << 20
"""Bytes of what a program prints on stderr that are looked at, from its end."""

_MODULE = '''\
"""Found by the launcher: lets SpanRelay's doctor look on, where this Python has SpanRelay."""
import json, os, sys
def _missing(error):
    with open(os.path.join(os.environ["SPANRELAY_DOCTOR"], "missing.jsonl"), "a") as file:
        print(json.dumps({"event": "missing", "python": sys.executable, "why": str(error)}), file=file)
def begin():
    try:
        from spanrelay.doctor import inside
    except ImportError as error:
        return _missing(error)
    inside.begin()
def instrumented():
    try:
        from spanrelay.doctor import inside
    except ImportError:
        return
    inside.instrumented()
'''

_FILES = {
    "spanrelay_doctor_probe.py": _MODULE,
    "spanrelay_doctor_probe-0.dist-info/METADATA": "Metadata-Version: 2.1\nName: spanrelay-doctor-probe\nVersion: 0\n",
    "spanrelay_doctor_probe-0.dist-info/entry_points.txt": (
        "[opentelemetry_pre_instrument]\nspanrelay_doctor = spanrelay_doctor_probe:begin\n"
        "[opentelemetry_post_instrument]\nspanrelay_doctor = spanrelay_doctor_probe:instrumented\n"
    ),
}
"""A distribution of two entry points, in a folder that `PYTHONPATH` names: the launcher is left as it is."""


@dataclass(slots=True)
class Ran:
    """What came of a program.

    Attributes:
        command: What was started.
        seconds: How long it was given.
        status: As `Popen.returncode` says.
        stopped: Whether it was stopped, since its time was over.
        events: What was noted in it.
        spans: What arrived of it.
        said: What SpanRelay said in it, and OpenTelemetry where that says that it does nothing.
    """

    command: list[str]
    seconds: float
    status: int = 0
    stopped: bool = False
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    spans: list[Span] = field(default_factory=list[Span])
    said: list[str] = field(default_factory=list[str])

    def noted(self, event: str) -> list[dict[str, Any]]:
        """Return what was noted of one kind."""
        return [each for each in self.events if each.get("event") == event]


def run_app(command: Sequence[str], case: Case, seconds: float) -> Ran:
    """Run a program for `seconds` at most, and return what it did.

    Raises:
        SpanRelayError: it cannot be started.
    """
    found_on_path(command[0], case.environment)
    ran = Ran(list(command), seconds)

    def take(signal: str, data: bytes, kind: str, headers: Mapping[str, str]) -> None:
        if signal == "traces":
            with suppress(Unreadable):
                ran.spans += [item for item in protobuf.read(data, lambda fault: None) if isinstance(item, Span)]

    with tempfile.TemporaryDirectory(prefix="spanrelay-doctor-") as name:
        folder = Path(name)
        for path, text in _FILES.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(text)
        receiver = Receiver(take, lambda agent, data: b"")
        try:
            _run(ran, _launched(case, command), {**case.environment, **_told(case, folder, receiver.otlp)}, folder)
        finally:
            receiver.close()
        ran.events = list(_events(folder))
        ran.said = list(_said(folder / "stderr"))
    return ran


def _launched(case: Case, command: Sequence[str]) -> list[str]:
    """Return the command under the launcher, unless it begins with it."""
    if Path(command[0]).name == LAUNCHER:
        return list(command)
    found = path_of_launcher(case) or Path(sys.executable).parent / LAUNCHER
    return [str(found), *command]


def _told(case: Case, folder: Path, endpoint: str) -> dict[str, str]:
    """Return what is set for the program: where to note, and to send its spans to us."""
    places = [str(folder), *filter(None, case.environment.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        VARIABLE: str(folder),
        "PYTHONPATH": os.pathsep.join(places),
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{endpoint}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": config.PROTOCOLS[0],
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "",
        **past_proxies({"HTTP_PROXY": "any", **case.environment}),
        **_redirected(case, folder, endpoint),
    }


def _redirected(case: Case, folder: Path, endpoint: str) -> dict[str, str]:
    """Return what names a copy of the file of `OTEL_CONFIG_FILE` that sends spans to us, and nothing else."""
    if case.declared is None or not case.declared.records:
        return {}
    import yaml  # where such a file was read, it is there

    original = Path(case.declared.path).absolute()
    content: dict[str, Any] = yaml.safe_load(original.read_text("utf-8"))
    ours = {"otlp_http": {"endpoint": f"{endpoint}/v1/traces"}}
    content["tracer_provider"]["processors"] = [{"batch": {"exporter": ours}}]
    for other in ("meter_provider", "logger_provider"):
        content.pop(other, None)
    policy = (content.get("distribution") or {}).get("spanrelay") or {}
    if isinstance(policy.get("include"), list):
        policy["include"] = [str(original.parent / Path(name).expanduser()) for name in policy["include"]]
    (copy := folder / "configuration.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return {"OTEL_CONFIG_FILE": str(copy)}


def _run(ran: Ran, command: list[str], environment: dict[str, str], folder: Path) -> None:
    with (folder / "stderr").open("wb") as stderr:
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise SpanRelayError(f"{command[0]!r} cannot be started: {error.strerror or error}") from error
        try:
            with _leaving():
                ran.status = process.wait(ran.seconds)
        except subprocess.TimeoutExpired:
            ran.stopped = True
            ran.status = end(process)
        except BaseException:
            end(process)
            raise


@contextmanager
def _leaving() -> Generator[None]:
    """Within the block let what asks this process to end raise, so that the program is ended too."""

    def leave(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.signal(number, leave)
            for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None))
            if number
        }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end(process: subprocess.Popen[bytes]) -> int:
    """End a program with all that it has started: it is asked to first."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        with suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                process.terminate()
            else:
                os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(_LEAVE_S)
    return process.wait()


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):  # the program was killed as it wrote
                event = _json.loads(line)
                if isinstance(event, dict):
                    yield event


def _said(path: Path) -> Iterator[str]:
    text = path.read_bytes()[-_LARGEST:].decode(errors="replace")
    for line in dict.fromkeys(text.splitlines()):
        if line.startswith("spanrelay: "):
            yield line.removeprefix("spanrelay: ")
        elif "Failed to auto initialize OpenTelemetry" in line or "Overriding of current TracerProvider" in line:
            yield line
