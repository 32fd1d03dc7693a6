"""What `spanrelay` exports is what it says: sorted, complete, documented."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import spanrelay

ROOT = Path(__file__).parent.parent
SOURCE = ast.parse(Path(spanrelay.__file__).read_text())


def names_for_type_checkers() -> set[str]:
    [block] = [node for node in SOURCE.body if isinstance(node, ast.If)]
    return {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_all_is_sorted() -> None:
    assert spanrelay.__all__ == sorted(set(spanrelay.__all__))


def test_all_is_what_type_checkers_see() -> None:
    assert set(spanrelay.__all__) == names_for_type_checkers()


def test_dir_names_what_is_exported() -> None:
    assert set(dir(spanrelay)) == {*spanrelay.__all__, "__version__"}


def test_every_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'no_such_name'"):
        spanrelay.no_such_name  # noqa: B018 - the access is the test


@pytest.mark.parametrize("name", spanrelay.__all__)
def test_every_name_loads_and_says_what_it_is(name: str) -> None:
    value = getattr(spanrelay, name)
    assert value.__module__.startswith("spanrelay.")
    assert value.__doc__


@pytest.mark.parametrize("module", ["atif", "atof", "otlp"])
def test_an_exporter_is_found_where_programs_have_imported_it_from(module: str) -> None:
    former = importlib.import_module(f"spanrelay.{module}")
    present = importlib.import_module(f"spanrelay.exporters.{module}")
    exporters = {
        name
        for name in vars(present)
        if name.endswith("Exporter") and vars(present)[name].__module__ == present.__name__
    }
    assert set(former.__all__) == exporters
    assert all(getattr(former, name) is getattr(present, name) for name in exporters)


def test_importing_the_package_loads_nothing_of_it() -> None:
    program = "import sys, spanrelay; print([name for name in sys.modules if name.startswith('spanrelay.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['spanrelay._exit']"  # registered with atexit before the program's own


def test_the_version_is_the_one_of_the_project() -> None:
    assert f'\nversion = "{spanrelay.__version__}"\n' in (ROOT / "pyproject.toml").read_text()
