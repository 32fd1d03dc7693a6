"""The plugin `nemo_guardrails` without its package: what a configuration may say, and where the rest is tested."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.plugins.nemo import PACKAGE, needs_environment, run_tests
from tests.programs import run

from spanrelay import ConfigurationError
from spanrelay.config import PolicyFile
from spanrelay.plugins.activation import Activation
from spanrelay.plugins.nemo_guardrails import NemoGuardrailsConfig, NemoGuardrailsPlugin


@pytest.fixture
def complaints(tmp_path: Path) -> Any:
    """Returns what is said against a table, without the missing package."""

    def refuse(text: str, origin: Any = "chosen") -> list[str]:
        file = tmp_path / "spanrelay.toml"
        file.write_text(f"[plugins.nemo_guardrails]\n{text}")
        with pytest.raises(ConfigurationError) as refused:
            Activation([PolicyFile(str(file), origin)]).start()
        lines = [line.partition("plugins.nemo_guardrails")[2] for line in str(refused.value).splitlines()[1:]]
        return [line.removeprefix(".") for line in lines if PACKAGE not in line]

    return refuse


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "config_path: is missing; name a folder, or write config_yaml"),
        ('config_path = "a"\nconfig_yaml = "b"', "config_yaml: is set together with config_path; remove one of them"),
        ('config_path = "a"\ncolang_content = "b"', "colang_content: is set without config_yaml; write config_yaml "),
        ('config_path = "a"\ninput = false\noutput = false', "input: is off, as output is; switch one on, or write "),
        ('config_path = "a"\nkinds = []', "kinds: is an empty list; name a kind of call, or remove the key"),
        ('config_path = "a"\nkinds = ["tool"]', "kinds[0]: is not one of the choices; write 'llm' or 'embedder'"),
        ('config_path = "a"\nmethod = "remote"', "method: is not known; "),
    ],
)
def test_a_configuration_that_names_no_rails_or_two_is_refused(complaints: Any, text: str, said: str) -> None:
    [complaint] = complaints(text)
    assert complaint.startswith(said)


@pytest.mark.parametrize("key", ["config_path", "config_yaml"])
def test_a_file_merely_found_may_not_name_rails_which_run_code(complaints: Any, key: str) -> None:
    [complaint] = complaints(f'{key} = "rails"', "directory")
    assert complaint.startswith(f"{key}: runs code, which a file found in the working directory may not; move it to ")


@pytest.mark.skipif(find_spec(PACKAGE) is not None, reason="the package is installed here")
def test_a_missing_package_stops_the_program_and_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "chosen.toml").write_text('[plugins.nemo_guardrails]\nconfig_path = "rails"')
    ran = run("print('first line')", tmp_path, SPANRELAY_CONFIG="chosen.toml")
    assert (ran.code, ran.out) == (1, "")
    needs = "plugins.nemo_guardrails: needs the package 'nemoguardrails'; pip install 'spanrelay[guardrails]'"
    assert ran.err.splitlines()[1].endswith(needs)


def test_the_package_is_not_imported_before_rails_are_loaded() -> None:
    NemoGuardrailsPlugin().validate(NemoGuardrailsConfig("rails"))
    assert PACKAGE not in sys.modules


@needs_environment
def test_the_rails_of_the_real_package_hold() -> None:
    done = run_tests(Path(__file__).with_name("test_nemo_guardrails.py"))
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    last = done.stdout.splitlines()[-1]
    assert " passed in " in last
    assert "skipped" not in last
