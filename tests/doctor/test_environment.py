"""The doctor says what is installed and set here, and what of it keeps a trace from being made."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from tests.doctor.doctors import HERE, Doctor, distribution, packages_without
from tests.exporters.otlp_server import OtlpServer

import spanrelay
import spanrelay_langchain
from spanrelay.assembly.spool import SUFFIX
from spanrelay.doctor import importing, table
from spanrelay.doctor.findings import Case, Finding


def test_where_all_is_well_every_check_passes_and_the_end_says_what_is_recorded(
    doctor: Doctor, collector: OtlpServer
) -> None:
    report = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert [found for found in report.findings if found["level"] != "pass"] == []
    assert (report.code, report.status) == (0, "pass")
    assert collector.span_names() == ["spanrelay doctor"]
    assert report.prospect == (
        f"a program started here would write trajectories to {doctor.folder}/.spanrelay/trajectories "
        f"and send spans to {collector.url}, without message content"
    )
    assert list(doctor.folder.iterdir()) == [], "looking changes nothing"


def test_the_launcher_of_another_environment_is_told(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    other = tmp_path / "bin" / "opentelemetry-instrument"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    [told] = doctor("--offline", PATH=f"{tmp_path / 'bin'}{os.pathsep}{HERE}").of("launcher", "warn")
    assert str(other) in told and "another environment" in told
    [told] = doctor("--offline", PATH=str(tmp_path)).of("launcher", "warn")
    assert "is not on the PATH" in told and f"{HERE}/opentelemetry-instrument" in told


def test_a_distro_that_comes_first_is_told_and_one_that_breaks_is_a_failure(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    entry_points = "[opentelemetry_distro]\nacme = acme_distro:Distro\n"
    distribution(
        theirs, "acme-distro", entry_points + "[opentelemetry_configurator]\nacme = acme_distro:Configurator\n"
    )
    (theirs / "acme_distro.py").write_text(
        "from opentelemetry.instrumentation.distro import DefaultDistro as Distro\n"
        "from opentelemetry.sdk._configuration import _OTelSDKConfigurator as Configurator\n"
    )
    report = doctor("--offline", known=theirs)
    assert [told.partition(" | ")[0] for told in report.of("distro", "warn")] == [
        "the distro is 'acme' of acme-distro, not SpanRelay's",
        "the configurator is 'acme' of acme-distro, not SpanRelay's",
    ]
    report = doctor("--offline", known=theirs, OTEL_PYTHON_DISTRO="spanrelay")
    assert report.of("distro") == ["the distro is SpanRelay's; installed beside it: acme |  | "]
    monkeypatch.delitem(sys.modules, "acme_distro")
    (theirs / "acme_distro.py").write_text("raise RuntimeError('there is no such thing here')\n")
    [told] = doctor("--offline", known=theirs).of("distro", "fail")
    assert "'acme' of acme-distro cannot be loaded: RuntimeError: there is no such thing here" in told


@pytest.mark.parametrize("variable", ["OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR"])
def test_a_name_that_nobody_has_is_a_failure(doctor: Doctor, variable: str) -> None:
    report = doctor("--offline", **{variable: "spanrelai"})
    assert report.code == 1
    assert any(f"{variable}='spanrelai' is not installed" in told for told in report.of("distro", "fail"))


def test_an_sdk_is_recorded_or_the_reason_is_told(doctor: Doctor, tmp_path: Path) -> None:
    known = tmp_path / "known"
    distribution(known, "groq")
    distribution(known, "cohere")
    distribution(known, "mistralai")
    (known / "groq").mkdir()
    (known / "groq" / "__init__.py").write_text("raise ImportError('broken')\n")
    (known / "mistralai.py").write_text("")
    distribution(known, "mcp")
    (known / "mcp.py").write_text("import something_that_nobody_has\n")
    report = doctor("--offline", known=known, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="spanrelay_langgraph")
    told = {each.partition(" ")[0]: each for each in report.of("sdks")}
    assert "recorded by spanrelay-openai " in told["openai"]
    assert "groq 1.0 cannot be imported: ImportError: broken" in told["groq"] and "groq" not in sys.modules
    assert "mcp 1.0 cannot be imported: ModuleNotFoundError" in told["mcp"]
    assert "its module 'cohere' is not there" in told["cohere"]
    assert "spanrelay-mistral needs mistralai" in told["mistralai"]
    assert "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS leaves spanrelay_langgraph out" in told["langgraph"]


FAULTS = {
    "import something_that_nobody_has": "ModuleNotFoundError: No module named 'something_that_nobody_has'",
    "raise SystemExit('no licence')": "SystemExit: no licence",
    "print('[]'); import os; os._exit(7)": "it ends the process with 7",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "it ends the process with -9",
}


@pytest.mark.parametrize("source", FAULTS)
def test_what_an_import_does_befalls_a_process_of_its_own(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in (("fine_before", "print('hello')"), ("at_fault", source), ("fine_after", "")):
        (tmp_path / f"{name}.py").write_text(f"{text}\n")
    assert importing.import_faults(["fine_before", "at_fault", "fine_after"], os.environ) == {
        "at_fault": FAULTS[source]
    }


def test_an_import_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "SECONDS", 1.0)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "at_fault.py").write_text("import threading\nthreading.Event().wait()\n")
    assert importing.import_faults(["at_fault"], os.environ) == {"at_fault": "it takes longer than 1 s"}


def test_an_instrumentor_that_is_missing_is_named_and_one_of_others_too(doctor: Doctor, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    distribution(
        theirs,
        "openinference-instrumentation-openai",
        "[opentelemetry_instrumentor]\nopenai = openinference.instrumentation.openai:OpenAIInstrumentor\n",
        ('openai >= 1; extra == "instruments"',),
    )
    distribution(
        theirs,
        "acme-tracing",
        "[opentelemetry_instrumentor]\nacme = acme.tracing:Instrumentor\n",
        ('openai >= 1; extra == "instruments"',),
    )
    report = doctor("--offline", known=theirs)
    assert any(
        "openinference-instrumentation-openai instruments openai too" in told for told in report.of("sdks", "pass")
    )
    [told] = report.of("sdks", "warn")
    assert "acme-tracing too, and SpanRelay cannot leave its spans out" in told
    assert "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=acme" in told
    report = doctor("--offline", known=theirs, SPANRELAY_FOREIGN_SPANS="keep")
    assert len(report.of("sdks", "warn")) == 2


def test_an_instrumentor_that_is_not_installed_is_named(doctor: Doctor, tmp_path: Path) -> None:
    packages = packages_without(tmp_path / "packages", "spanrelay_openai")
    ours = [Path(spanrelay.__file__).parents[1], Path(spanrelay_langchain.__file__).parents[1]]
    path = os.pathsep.join(map(str, [packages, *ours]))
    [told, *_] = doctor.apart("--offline", options=("-S",), PYTHONPATH=path).of("sdks", "fail")
    assert "is not recorded: spanrelay-openai is not installed" in told and "pip install spanrelay-openai" in told


SETTINGS = {
    "a word that is not one": ({"SPANRELAY_TRAJECTORIES": "onn"}, "settings", "fail", "SPANRELAY_TRAJECTORIES='onn'"),
    "a name that nothing reads": ({"SPANRELAY_TRAJECTORY": "x"}, "settings", "warn", "SPANRELAY_TRAJECTORY is not a"),
    "a slip in OpenTelemetry's": (
        {"OTEL_EXPORTER_OTLP_ENDPONT": "http://x"},
        "settings",
        "warn",
        "did you mean OTEL_EXPORTER_OTLP_ENDPOINT?",
    ),
    "an exporter that is not there": ({"OTEL_TRACES_EXPORTER": "otpl"}, "settings", "fail", "'otpl' is not valid"),
    "no recording": ({"OTEL_SDK_DISABLED": "true"}, "settings", "fail", "OTEL_SDK_DISABLED is true"),
    "no sampling": ({"OTEL_TRACES_SAMPLER": "always_off"}, "sampling", "fail", "no trace is sampled"),
    "no sampling of its own": ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, "sampling", "fail", "begins here"),
    "some sampling": (
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"},
        "sampling",
        "warn",
        "samples 0.25 of all traces",
    ),
    "sampling of nonsense": (
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
        "sampling",
        "fail",
        "is not a number from 0 to 1",
    ),
    "no exporter": (
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        "exporters",
        "fail",
        "no span is sent, though an OTLP endpoint is set",
    ),
    "nothing anywhere": ({"SPANRELAY_TRAJECTORIES": "off"}, "exporters", "fail", "no trajectory is written"),
    "a certificate that is not there": (
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem"},
        "exporters",
        "fail",
        "cannot be read: No such file",
    ),
    "no content": (
        {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "no_content"},
        "content",
        "warn",
        "recorded nowhere",
    ),
    "content that leaves": (
        {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only", "OTEL_TRACES_EXPORTER": "console"},
        "content",
        "warn",
        "prompts, answers and tools' results leave this machine",
    ),
    "headers that are recorded": (
        {"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST": ".*"},
        "content",
        "warn",
        "SANITIZE_FIELDS is not set",
    ),
    "a length that cuts": ({"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "100"}, "limits", "warn", "cuts every longer value"),
    "a limit that is not one": ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, "limits", "fail", "not a whole number"),
    "a count that cuts": ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "8"}, "limits", "warn", "is below 128"),
    "no trajectories": ({"SPANRELAY_TRAJECTORIES": "off"}, "trajectories", "warn", "no trajectories are written"),
    "trajectories that a collector writes": (
        {"SPANRELAY_TRAJECTORIES": "off", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        "trajectories",
        "pass",
        "a collector may, from the spans it gets, which have no message content",
    ),
}


@pytest.mark.parametrize(("variables", "check", "level", "words"), SETTINGS.values(), ids=SETTINGS)
def test_a_setting_that_changes_a_trace_is_told(
    doctor: Doctor, variables: dict[str, str], check: str, level: str, words: str
) -> None:
    report = doctor("--offline", **variables)
    assert any(words in told for told in report.of(check, level)), report.text
    assert (
        report.code
        == {"pass": 0, "warn": 3, "fail": 1}[max(report.levels().values(), key=("pass", "warn", "fail").index)]
    )


def test_a_policy_file_is_found_checked_and_said_of_which_layer_it_is(doctor: Doctor, tmp_path: Path) -> None:
    assert "no policy file" in doctor("--offline").of("policy")[0]
    (tmp_path / "spanrelay.toml").write_text('[plugins.policy]\ntools.deny = ["rm"]\n')
    told = doctor("--offline").of("policy", "pass")
    assert any("is valid; it counts for the working directory" in each for each in told)
    assert any("in force would be: policy" in each for each in told)
    (other := tmp_path / "other.toml").write_text('[plugins.policy]\ntools.denny = ["rm"]\n')
    report = doctor("--offline", SPANRELAY_CONFIG=str(other))
    assert any(
        "plugins.policy.tools.denny" in each and "does not start" in each for each in report.of("policy", "fail")
    )
    assert any("not read, since SPANRELAY_CONFIG has one" in each for each in report.of("policy", "pass"))


def test_a_folder_that_cannot_be_written_is_a_failure(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    [told] = doctor("--offline", SPANRELAY_TRAJECTORY_DIR=str(tmp_path / "taken" / "x")).of("trajectories", "fail")
    assert "taken is a file" in told and "SPANRELAY_TRAJECTORY_DIR" in told


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_failure(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    for folder in ("closed", "closed/below"):
        assert doctor("--offline", SPANRELAY_TRAJECTORY_DIR=str(tmp_path / folder)).of("trajectories", "fail")


def test_what_earlier_programs_left_is_counted(doctor: Doctor, tmp_path: Path) -> None:
    folder = tmp_path / ".spanrelay" / "trajectories"
    folder.mkdir(parents=True, mode=0o700)
    (folder / f"s-1{SUFFIX}").write_text("")
    (folder / "s-2.atif.damaged").write_text("")
    (folder / "s-3.json").write_text(json.dumps({"extra": {"status": "partial"}}))
    report = doctor("--offline")
    assert "1 are there, 1 not finished" in report.of("trajectories")[0]
    told = "\n".join(report.of("earlier runs", "warn"))
    assert "trajectories: 1, runs of coding agents: 0" in told and "`spanrelay recover`" in told
    assert "parts with lines that cannot be read: 1" in told
    assert "trajectories that say that they are not whole: 1" in told
    assert sorted(path.name for path in folder.iterdir()) == ["s-1.atif.part", "s-2.atif.damaged", "s-3.json"]


def test_a_folder_that_others_can_read_is_told(doctor: Doctor, tmp_path: Path) -> None:
    (folder := tmp_path / "open").mkdir()
    folder.chmod(0o755)
    [told] = doctor("--offline", SPANRELAY_TRAJECTORY_DIR=str(folder)).of("trajectories", "warn")
    assert "can be read by others" in told
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_without_the_otlp_exporters_the_rest_is_looked_at(doctor: Doctor, collector: OtlpServer) -> None:
    without = (
        "import sys\nfor name in ('', '.http', '.http.trace_exporter', '.grpc', '.grpc.trace_exporter'):\n"
        "    sys.modules[f'opentelemetry.exporter.otlp.proto{name}'] = None\n"
    )
    report = doctor.apart(before=without, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    [told] = report.of("exporters", "fail")
    assert "no span can be sent" in told and "opentelemetry-exporter-otlp" in told
    assert report.levels()["trajectories"] == "pass"


@pytest.mark.parametrize("module", ["opentelemetry.sdk", "opentelemetry.sdk.trace", "opentelemetry.instrumentation"])
def test_a_broken_opentelemetry_is_a_failure_and_no_traceback(doctor: Doctor, module: str) -> None:
    report = doctor.apart("--offline", before=f"import sys\nsys.modules[{module!r}] = None")
    [told] = report.of("installation", "fail")
    assert "cannot be imported: ModuleNotFoundError: " in told and module in told and "pip check" in told
    assert (report.code, report.prospect) == (1, "a program started here would record nothing")


def test_a_check_that_fails_is_told_and_the_others_go_on(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    def trajectories(case: Case) -> list[Finding]:
        raise ValueError("a fault of ours")

    monkeypatch.setitem(table.CHECKS, "trajectories", trajectories)
    report = doctor("--offline")
    [told] = report.of("trajectories", "warn")
    assert "this could not be checked: ValueError: a fault of ours" in told
    assert report.of("earlier runs")
