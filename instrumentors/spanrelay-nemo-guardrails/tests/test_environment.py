"""Where NeMo Guardrails is not installed, its tests run in an environment that has it."""

from pathlib import Path

from tests.plugins.nemo import needs_environment, run_tests


@needs_environment
def test_rails_are_recorded_and_governed_with_the_real_package() -> None:
    ran = run_tests(Path(__file__).parent)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "passed" in ran.stdout
