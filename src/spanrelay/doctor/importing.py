"""Whether what is installed can be imported: tried in a process of its own, which may print, hang or die of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

SECONDS = 30.0
"""How long the import of one module may take."""

_PROGRAM = """\
import importlib, json, os, sys
told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what is imported may print
sys.path[:] = json.loads(sys.argv[1])
for module in sys.argv[2:]:
    try:
        importlib.import_module(module)
        fault = ""
    except BaseException as error:
        fault = f"{type(error).__name__}: {error}"
    print(json.dumps(fault), file=told, flush=True)
os._exit(0)  # threads that were begun are not waited for
"""


def import_faults(modules: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return why modules cannot be imported from where this process finds them; nothing of those that can be.

    Args:
        modules: What is imported, in this order.
        environment: The variables of the process that tries it.
    """
    faults: dict[str, str] = {}
    left = list(modules)
    while left:
        told, end = _tried(left, environment)
        faults |= {module: fault for module, fault in zip(left, told, strict=False) if fault}
        left = left[len(told) :]
        if left and (end or not told):  # one that had not the whole time is tried again
            faults[left.pop(0)] = end or f"it takes longer than {SECONDS:.0f} s"
    return faults


def _tried(modules: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], str]:
    """Return what was said of each module in turn, and how the process ended; nothing where its time was over."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), *modules],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
        said, end = done.stdout, f"it ends the process with {done.returncode}"
    except subprocess.TimeoutExpired as late:
        said, end = late.stdout or b"", ""
    return [str(json.loads(line)) for line in said.split(b"\n")[:-1]], end
