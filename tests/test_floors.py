"""A file imports lower floors and, on its own floor, files listed above it; nobody imports the root."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "src" / "spanrelay"

FLOORS: list[list[str]] = [
    ["_exit", "_voice", "records", "errors", "_guard", "_json"],
    ["codecs", "semconv"],
    ["registry", "stacktraces", "tracing", "scopes", "propagation"],
    ["pipeline"],
    ["telemetry", "assembly"],
    [
        "config",
        "installed",
        "imports",
        "providers",
        "plugins",
        "instrumentation",
        "otlp",
        "atof",
        "atif",
        "sdk",
        "termination",
        "runtime",
    ],
    ["distro", "cli", "__main__", "testing"],
]
SIBLINGS_APART = {("codecs", "semconv"), ("telemetry", "assembly")}
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
