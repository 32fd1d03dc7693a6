"""Tries what was built as a user does: installed from files, in a folder where the clone is not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from spanrelay_testkit import demo, environments
from spanrelay_testkit.release.building import Built
from spanrelay_testkit.release.projects import CORE

_LOADED = """
from importlib.metadata import distributions, entry_points
import {core}
assert "site-packages" in {core}.__file__, {core}.__file__
found = ("distro", "configurator", "traces_exporter", "metrics_exporter")
for group in (*("opentelemetry_" + name for name in found), "spanrelay_plugin"):
    for each in entry_points(group=group):
        if each.dist.name == "{core}" and each.name != "nemo_guardrails":
            each.load()
for each in entry_points(group="opentelemetry_instrumentor"):
    if each.dist.name.startswith("{core}"):
        each.load()
print(sum(each.name.startswith("{core}") for each in distributions()))
"""
"""Loads everything of ours that OpenTelemetry finds by itself; rails need the package that they are of."""


def run_demo(built: Sequence[Built], agent: Path) -> int:
    """Install every wheel into an environment of its own and run the demo there; returns its exit status.

    Args:
        built: What was built, the core first.
        agent: The program of the demo.

    Raises:
        SystemExit: something that was installed cannot be loaded.
    """
    with TemporaryDirectory() as folder:
        home, work = Path(folder, "environment"), Path(folder, "work")
        environments.make(home)
        core, *others = [each.wheel for each in built]
        environments.install(home, [f"{core}[cli]", *others, "openai"])
        loaded = _LOADED.format(core=CORE)
        done = subprocess.run([home / "bin" / "python", "-c", loaded], capture_output=True, text=True, check=False)
        if done.returncode or int(done.stdout) != len(built):
            raise SystemExit(f"what was installed cannot be loaded: {done.stdout}{done.stderr}")
        work.mkdir()
        shutil.copy(agent, work)
        return demo.show(Path(agent.name), programs=home / "bin", folder=work)
