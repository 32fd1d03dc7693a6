"""Runs a program of its own, the way a user would: under `opentelemetry-instrument`, against a model server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanrelay_testkit.model_server import ModelServer

ASK = """
import openai
client = openai.OpenAI()
answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
print(answer.choices[0].message.content)
"""


NOTHING_RECORDED = "spanrelay: nothing is recorded, since OTEL_SDK_DISABLED is true; policy holds all the same\n"
"""What a program says that is to record nothing."""


@dataclass
class Run:
    """What a program left."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def trajectories(self) -> list[dict[str, Any]]:
        """The documents it wrote, in the default folder."""
        paths = sorted((self.folder / ".spanrelay" / "trajectories").glob("*.json"))
        return [json.loads(path.read_text()) for path in paths]

    @property
    def said(self) -> list[str]:
        """The messages of all documents."""
        return [step["message"] for document in self.trajectories for step in document["steps"]]


def environment(server: ModelServer | None, settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without any setting of ours or OpenTelemetry's, and with `settings`."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "SPANRELAY_", "OPENAI_"))}
    model = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none"} if server is not None else {}
    return {**outside, **model, **settings}


def command(*arguments: str, python: str = sys.executable) -> list[str]:
    """`opentelemetry-instrument python …` of this environment, or of that of another `python`."""
    return [str(Path(python).parent / "opentelemetry-instrument"), python, *arguments]


def run(
    program: str,
    folder: Path,
    server: ModelServer | None = None,
    *,
    launched: bool = True,
    arguments: tuple[str, ...] = (),
    python: str = sys.executable,
    **settings: str,
) -> Run:
    """Run `program` in `folder`, under `opentelemetry-instrument` if it is to be `launched`, and wait for it."""
    path = folder / "program.py"
    path.write_text(program)
    done = subprocess.run(
        [*(command(str(path), python=python) if launched else [python, str(path)]), *arguments],
        cwd=folder,
        env=environment(server, settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr, folder)
