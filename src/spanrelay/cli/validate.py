"""Check trajectories against the strict profile of ATIF."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from spanrelay._voice import say
from spanrelay.assembly.atif import violations
from spanrelay.cli import files
from spanrelay.evaluation import harbor_validator
from spanrelay.view.facts import plural, visible

EXAMPLES = (
    "spanrelay validate latest",
    "spanrelay validate runs/ --harbor",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `validate` takes."""
    parser.add_argument(
        "files", nargs="+", metavar="WHICH", help="a trajectory, as `spanrelay show` takes it, or a folder: all in it"
    )
    parser.add_argument(
        "--harbor", action="store_true", help="ask Harbor's own validator as well, where it is installed"
    )
    parser.add_argument("--harbor-python", metavar="PYTHON", help="the Python of the environment that has Harbor")


def run(options: argparse.Namespace) -> int:
    """Print what is wrong with each file; returns 1 when anything is, or a file cannot be read."""
    judged = [(path, path is not None and check(path)) for path in _found(options.files)]
    good = sum(valid for _, valid in judged)
    paths = [path for path, _ in judged if path is not None]
    if paths and any(Path(place).is_dir() for place in options.files):
        print(f"{good} of {plural(len(paths), 'file')} valid")
    asked = options.harbor or options.harbor_python is not None
    accepted = not asked or not paths or _harbor(paths, options.harbor_python)
    return 0 if accepted and good == len(judged) else 1


def _found(places: list[str]) -> Iterator[Path | None]:
    """Yield the files meant, each once; None, and say why, where there is none."""
    seen: set[Path] = set()
    for place in places:
        try:
            for path in files.each([place]):
                if path not in seen:
                    seen.add(path)
                    yield path
        except files.NoTrajectory as error:
            say(str(error))
            yield None


def check(path: Path) -> bool:
    """Print what is wrong with one file; returns whether it is good."""
    try:
        problems = violations(files.read(path))
    except files.NoTrajectory as error:
        say(str(error))
        return False
    print(f"{path}: {'valid' if not problems else plural(len(problems), 'violation')}")
    for problem in problems:
        print(f"  {visible(problem)}")
    return not problems


def _harbor(paths: list[Path], python: str | None) -> bool:
    """Print what Harbor has against files; returns whether that is nothing."""
    verdict = harbor_validator.judge(paths, python)
    refused = [(path, said) for path, said in zip(paths, verdict.complaints, strict=True) if said]
    for path, said in refused:
        print(f"{path}: {plural(len(said), 'violation')} to Harbor")
        for each in said:
            print(f"  {visible(each)}")
    print(f"Harbor {verdict.version} accepts {len(paths) - len(refused)} of {plural(len(paths), 'file')}")
    return not refused
