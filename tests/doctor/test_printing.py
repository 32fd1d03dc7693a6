"""What the doctor prints can be read on any terminal, and its status says how bad it is."""

from __future__ import annotations

import pytest
from tests.doctor.doctors import Doctor

from spanrelay.cli import main
from spanrelay.cli.printing import columns


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_fit_the_terminal_and_have_no_colors_in_a_pipe(doctor: Doctor, width: int) -> None:
    printed = doctor.plain("--offline", COLUMNS=str(width), OTEL_TRACES_SAMPLER="always_off")
    assert max(map(columns, printed.splitlines()[:-1])) <= width
    assert "\x1b" not in printed
    # Long words are cut at forty columns.
    words = "".join(printed.replace("│", " ").replace("├── ", " ").replace("└── ", " ").split())
    assert "failsampling:OTEL_TRACES_SAMPLER=always_off:notraceissampled" in words
    assert "why:nospanisexported" in words and "do:OTEL_TRACES_SAMPLER=parentbased_always_on" in words
    assert printed.splitlines()[-1].startswith("a program started here would write trajectories to")


def test_no_color_is_heeded_and_a_terminal_without_our_signs_gets_others(doctor: Doctor) -> None:
    done = doctor.printed("--offline", NO_COLOR="1", FORCE_COLOR="1", PYTHONIOENCODING="ascii")
    assert "\x1b[3" not in done.stdout and done.stderr == ""
    assert done.stdout.isascii()


def test_the_status_says_whether_there_are_failures_or_warnings_only(doctor: Doctor) -> None:
    assert doctor("--offline").code == 0
    assert doctor("--offline", OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="9").code == 3
    assert doctor("--offline", OTEL_SDK_DISABLED="true").code == 1


def test_wrong_usage_is_told_and_help_says_what_the_status_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--jsn"])
    assert ended.value.code == 2 and "--jsn" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "3 something may be wrong" in " ".join(capsys.readouterr().out.split())
