"""The demo: an unmodified agent under `opentelemetry-instrument`, then the trajectory it left.

The program that runs knows nothing of SpanRelay; all this file does is what one would type.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

from spanrelay_testkit.model_scripts import SCRIPTS
from spanrelay_testkit.model_server import ModelServer

AGENT = Path("examples", "weather_agent.py")
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


@contextlib.contextmanager
def model_settings() -> Generator[dict[str, str]]:
    """Where the agent finds its model: the real API when there is a key for it, else the testkit's server."""
    if os.environ.get("OPENAI_API_KEY"):
        yield {}
        return
    with ModelServer(SCRIPTS["weather"]) as server:
        yield {"OPENAI_BASE_URL": server.url}


def run(command: list[str], settings: Mapping[str, str], programs: Path, folder: Path) -> int:
    """Say the command as one would type it, and run it in a folder with the programs of an environment."""
    print("$", *(f"{name}={shlex.quote(value)}" for name, value in settings.items()), shlex.join(command), flush=True)
    environment = {**os.environ, **settings, "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", "")])}
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def show(agent: Path, *, programs: Path, folder: Path) -> int:
    """Run an agent and show its trajectory; returns the first exit status that is not 0.

    Args:
        agent: The program, seen from `folder`.
        programs: The folder of an environment's commands.
        folder: Where both run.
    """
    with model_settings() as settings:
        settings["OTEL_SERVICE_NAME"] = os.environ.get("OTEL_SERVICE_NAME", "weather-agent")
        settings[CONTENT] = os.environ.get(CONTENT, "span_only")
        status = run(["opentelemetry-instrument", "python", str(agent)], settings, programs, folder)
    print(flush=True)
    return status or run(["spanrelay", "show", "latest"], {}, programs, folder)


if __name__ == "__main__":
    sys.exit(show(AGENT, programs=Path(sys.executable).parent, folder=Path.cwd()))
