"""Programs in an environment of their own, for packages that no other test should have beside it, and their spans."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.plugins.installed import distribution
from tests.programs import Run, environment
from tests.trajectory.program import accept
from tests.trajectory.spans import story

from spanrelay.trajectory.atif import violations
from spanrelay_testkit.model_server import ModelServer

ROOT = Path(__file__).parents[1]


def programs_of(name: str, ours: Iterable[str], others: Iterable[str]) -> Path:
    """Return where the programs of environment `name` are, made or brought up to date.

    Args:
        name: Of the environment, in the user's cache folder.
        ours: Instrumentors of this repository, as `openai`.
        others: Requirements of other packages.
    """
    home = Path.home() / ".cache" / "spanrelay" / f"{name}-venv-{sys.version_info[0]}.{sys.version_info[1]}"
    if not (home / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
    parts = [ROOT, *(ROOT / "instrumentors" / f"spanrelay-{name}" for name in ours)]
    editable = [option for part in parts for option in ("--editable", part)]
    pip = [home / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", *editable, *others], check=True)
    return home / "bin"


class Traced(Run):
    """What a program left, with the spans that went to the console."""

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The spans in the order of their starts."""
        decoder, found, at = json.JSONDecoder(), list[dict[str, Any]](), 0
        while (at := self.out.find('{\n    "name"', at)) >= 0:
            span, at = decoder.raw_decode(self.out, at)
            found.append(span)
        return sorted(found, key=lambda span: span["start_time"])

    def tree(self, parent: str | None = None) -> list[Any]:
        """The spans as `[kind and name, [what is beneath]]`."""
        return [
            [
                f"{span['attributes'].get('openinference.span.kind')} {span['name']}",
                self.tree(span["context"]["span_id"]),
            ]
            for span in self.spans
            if (span["parent_id"] and span["parent_id"].removeprefix("0x")) == (parent and parent.removeprefix("0x"))
        ]

    @property
    def story(self) -> list[str]:
        """The one document as `tests.trajectory.spans.story` tells it, but for figures."""
        [document] = self.trajectories
        assert violations(document) == []
        accept(document)
        return [line.partition(" {'prompt_tokens'")[0] for line in story(document)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The attributes of each span of a kind."""
        found = [span["attributes"] for span in self.spans]
        return [attributes for attributes in found if attributes.get("openinference.span.kind") == kind]


_COOLER = """
from dataclasses import dataclass

from spanrelay import request_intercept


@dataclass
class Config:
    temperature: float = 1.0


class Cooler:
    name = "cooler"
    config_model = Config

    def validate(self, config):
        return []

    def register(self, context):
        @request_intercept(kinds=["llm"])
        def cool(call):
            call.request.parameters["temperature"] = context.config.temperature
            return call.request

        context.use(cool)
"""
COOL = """
[plugins.cooler]
temperature = 0.25
"""
"""What a `spanrelay.toml` says that gives every model call this temperature."""


def launch(
    programs: Path, program: str, folder: Path, server: ModelServer, *, fails: bool = False, **settings: str
) -> Traced:
    """Run `program` in `folder` under `opentelemetry-instrument`; a plugin of its own is installed there."""
    (folder / "program.py").write_text(program)
    site = distribution(folder / "site", "other", "cooler", _COOLER, "[spanrelay_plugin]\ncooler = cooler:Cooler\n")
    spans = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", "PYTHONPATH": str(site)}
    done = subprocess.run(
        [programs / "opentelemetry-instrument", programs / "python", "program.py"],
        cwd=folder,
        env=environment(server, {**spans, **settings}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stderr
    assert "lost or left out" not in done.stderr
    return Traced(done.returncode, done.stdout, done.stderr, folder)
