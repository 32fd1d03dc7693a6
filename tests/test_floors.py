"""A file imports lower floors and, on its own floor, files listed above it; nobody imports the root.

Within a folder files stand in an order too: none imports, by whatever way around, a file that imports it. An import in
a function or for types alone counts as any other.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
ROOT = REPOSITORY / "src" / "spanrelay"
PACKAGES = [
    ROOT,
    *sorted(REPOSITORY.glob("instrumentors/*/src/*")),
    REPOSITORY / "testkit" / "src" / "spanrelay_testkit",
]

FLOORS: list[list[str]] = [
    ["_exit", "_voice", "records", "errors", "_guard", "_json", "_masking", "_retrying", "conversation"],
    ["codecs", "semconv"],
    ["registry", "stacktraces", "tracing", "scopes", "propagation"],
    ["pipeline"],
    ["observation", "telemetry", "assembly", "otlp_in", "conversion", "evaluation"],
    [
        "config",
        "installed",
        "imports",
        "providers",
        "plugins",
        "instrumentation",
        "exporters",
        "sdk",
        "report",
        "termination",
        "runtime",
        "gateway",
        "coding_agents",
        "doctor",
        "collecting",
        "spark",
    ],
    ["distro", "view", "cli", "notebook", "__main__", "testing", "atif", "atof", "otlp"],
]
SIBLINGS_APART = {("codecs", "semconv"), ("observation", "assembly"), ("telemetry", "assembly")}
PLACE = {name: (floor, row) for floor, names in enumerate(FLOORS) for row, name in enumerate(names)}


def unit_of(module: str) -> str:
    return module.split(".")[0]


def within_root(module: str) -> str:
    return module.removeprefix("spanrelay").lstrip(".") or "<root>"


def top_names(node: ast.AST) -> set[str]:
    """The top-level packages that a node imports."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level:
        return {(node.module or "").split(".")[0]}
    return set()


def imports_of(path: Path) -> set[str]:
    """The spanrelay modules (dotted, without the root) that a file imports, also inside functions."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {".".join((*base, name)) for name in names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "spanrelay":
            module = within_root(node.module or "")
            # `from spanrelay import scope` names a module; anything else of the root is the root's own.
            names = [alias.name if alias.name in PLACE else module for alias in node.names]
            found |= set(names) if module == "<root>" else {module}
        elif isinstance(node, ast.Import):
            found |= {within_root(alias.name) for alias in node.names if alias.name.split(".")[0] == "spanrelay"}
    return found


def violations() -> list[str]:
    wrong: list[str] = []
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        unit = unit_of(relative.parts[0].removesuffix(".py"))
        if unit == "__init__":
            continue
        if unit not in PLACE:
            wrong.append(f"{relative} stands on no floor")
            continue
        for target in imports_of(path):
            other = unit_of(target)
            if other == unit:
                continue
            if other not in PLACE:
                wrong.append(f"{relative} imports {target}, which stands on no floor")
            elif PLACE[other] > PLACE[unit] or (other, unit) in SIBLINGS_APART:
                wrong.append(f"{relative} imports {target} from above")
    return wrong


def test_every_file_imports_only_downward() -> None:
    assert violations() == []


def test_no_core_file_imports_a_provider_sdk() -> None:
    sdks = {"openai", "anthropic", "langchain", "langgraph", "httpx", "httpx2"}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not sdks & top_names(node), path


def modules_of(package: Path) -> dict[str, Path]:
    """The modules of a package by their dotted names."""
    parts = {path: (package.name, *path.relative_to(package).with_suffix("").parts) for path in package.rglob("*.py")}
    return {".".join(part for part in parts[path] if part != "__init__"): path for path in parts}


def imported(name: str, path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """The modules of the same package that a module imports, wherever in it; its root holds names for users only."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[tuple[str, str]] = []
        if isinstance(node, ast.Import):
            names = [(alias.name, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join((*above, *([node.module] if node.module else [])))
            names = [(f"{base}.{alias.name}", base) for alias in node.names]
        yield from (part if part in modules else whole for part, whole in names if {part, whole} & modules.keys())


def circle_in(package: Path) -> list[str]:
    """The modules of an import circle, the first of them at the end again; nothing where there is none."""
    modules = modules_of(package)
    graph = {name: {*imported(name, path, modules)} - {name, package.name} for name, path in modules.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        return circle.args[1]
    return []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_files_import_each_other_in_a_circle(package: Path) -> None:
    assert circle_in(package) == []


@pytest.mark.parametrize(
    "back",
    [
        "from spam.eggs.one import first",
        "from spam.eggs import one",
        "import spam.eggs.one",
        "from . import one",
        "from .one import first",
        "from ..eggs.one import first",
        "def later():\n    from spam.eggs import one",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from spam.eggs.one import First",
    ],
)
def test_a_circle_is_seen_however_it_is_closed(tmp_path: Path, back: str) -> None:
    package = tmp_path / "spam"
    (package / "eggs").mkdir(parents=True)
    for name, text in (
        ("__init__", "from spam.eggs.one import first"),
        ("eggs/__init__", ""),
        ("eggs/one", "from spam.eggs.two import second"),
        ("eggs/two", "from spam.eggs.three import third"),
        ("eggs/three", "third = 3"),
    ):
        (package / f"{name}.py").write_text(text)
    assert circle_in(package) == []
    (package / "eggs" / "three.py").write_text(back)
    assert sorted(set(circle_in(package))) == ["spam.eggs.one", "spam.eggs.three", "spam.eggs.two"]
