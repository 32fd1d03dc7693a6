"""`python -m spanrelay_testkit.release [--version VERSION]`."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from spanrelay_testkit import demo
from spanrelay_testkit.release import trial
from spanrelay_testkit.release.building import Built, build
from spanrelay_testkit.release.contents import faults_of
from spanrelay_testkit.release.projects import Project, projects, write_version

_TARGET = Path("dist")


def main() -> int:
    """Build, look and try; returns 1 where something is wrong. Runs in the clone's folder."""
    parser = argparse.ArgumentParser(prog="python -m spanrelay_testkit.release", description=__doc__)
    parser.add_argument("--version", help="write this version into every distribution, and build nothing")
    asked = parser.parse_args()
    root = Path.cwd()
    if asked.version is not None:
        print(*(path.relative_to(root) for path in write_version(root, asked.version)), sep="\n")
        return 0
    found = projects(root)
    shutil.rmtree(_TARGET, ignore_errors=True)
    built = [_built(root / _TARGET, project) for project in found]
    faults = [fault for each in built for fault in faults_of(each)]
    if faults:
        print(*faults, sep="\n", file=sys.stderr)
        return 1
    print(f"\n{len(built)} distributions of version {found[0].version}, without the clone:\n", flush=True)
    return trial.run_demo(built, root / demo.AGENT)


def _built(target: Path, project: Project) -> Built:
    made = build(project, target, Path("LICENSE"))
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1024:.0f} KB" for path in (made.wheel, made.sdist))
    print(sizes, flush=True)
    return made


if __name__ == "__main__":
    sys.exit(main())
