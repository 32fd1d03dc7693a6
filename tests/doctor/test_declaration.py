"""Where `OTEL_CONFIG_FILE` names a file, exporters and sampler are looked at as that has them."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.doctor.doctors import Doctor, distribution
from tests.doctor.test_app import MODEL
from tests.exporters.otlp_server import OtlpServer, free_port

FILE = """
file_format: "1.0"
tracer_provider:
  processors:
    - batch:
        exporter:
          otlp_http:
            endpoint: ${{PLACE}}/v1/traces
            headers_list: authorization=Bearer of-the-file
    - simple:
        exporter:
          console:
  sampler: {sampler}
meter_provider:
  readers:
    - periodic:
        exporter:
          otlp_http:
            endpoint: ${{PLACE}}/v1/metrics
"""

ALWAYS = "{parent_based: {root: {always_on: }}}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "otel.yaml"
    path.write_text(FILE.format(sampler=ALWAYS))
    return path


def test_the_exporters_of_the_file_are_asked_and_variables_are_not(
    doctor: Doctor, file: Path, collector: OtlpServer
) -> None:
    collector.script = lambda body: 200 if collector.asked[-1] == "/v1/traces" else 404
    elsewhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_SAMPLER": "always_off"}
    report = doctor(OTEL_CONFIG_FILE=str(file), PLACE=collector.url, **elsewhere)
    assert collector.asked == ["/v1/traces", "/v1/metrics"]
    assert report.of("exporters", "fail") == report.of("sampling", "fail") == []
    [told] = report.of("exporters", "warn")
    assert "takes no metrics" in told and "take this exporter out of the file" in told
    [told] = report.of("settings", "warn")
    assert told.startswith("OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_ENDPOINT: set, and not read beside")
    [told] = report.of("settings", "pass")
    assert "is valid, of format 1.0; its sampler: parentbased_always_on" in told
    assert "exporters: otlp_http of traces, console of traces, otlp_http of metrics" in told
    assert "of-the-file" not in report.text
    assert f"send spans to {collector.url}/v1/traces, console" in report.prospect


def test_a_refusal_is_told_with_what_the_file_has_to_say(doctor: Doctor, file: Path, collector: OtlpServer) -> None:
    collector.script = lambda body: 401
    [told] = doctor(OTEL_CONFIG_FILE=str(file), PLACE=collector.url).of("exporters", "fail")
    assert "401 Unauthorized" in told and "`headers_list: authorization=Bearer KEY` in the file" in told
    [told] = doctor("--offline", OTEL_CONFIG_FILE=str(file), PLACE="localhost:4318").of("exporters", "fail")[:1]
    assert "not an address" in told and "`endpoint: http://HOST:4318/v1/traces` in the file" in told


def test_what_the_file_leaves_open_is_taken_from_variables_and_keys_too(
    doctor: Doctor, file: Path, collector: OtlpServer
) -> None:
    report = doctor(OTEL_CONFIG_FILE=str(file), PLACE=collector.url, OTEL_EXPORTER_OTLP_HEADERS="api-key=of-variables")
    assert collector.headers["api-key"] == "of-variables", "the exporter of OpenTelemetry sends it"
    assert all("sends the headers of OTEL_EXPORTER_OTLP_HEADERS too" in told for told in report.of("exporters", "warn"))
    assert len(report.of("exporters", "warn")) == 2
    file.write_text(file.read_text().replace("endpoint: ${PLACE}/v1/metrics", "timeout: 1000"))
    report = doctor(OTEL_CONFIG_FILE=str(file), PLACE=collector.url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert any("has no endpoint: OTEL_EXPORTER_OTLP_ENDPOINT says it" in told for told in report.of("exporters"))
    assert (report.of("settings", "warn"), collector.asked[-1]) == ([], "/v1/metrics")


SAMPLERS = {
    "nothing": ("{always_off: }", "fail", "has the sampler always_off: no trace is sampled"),
    "nothing of its own": ("{parent_based: {root: {always_off: }}}", "fail", "a trace that begins here is not sampled"),
    "a part": ("{trace_id_ratio_based: {ratio: 0.25}}", "warn", "samples 0.25 of all traces"),
    "by another": ("{acme: {}}", "warn", "has the sampler acme, which decides what is sampled"),
}


@pytest.mark.parametrize(("sampler", "level", "words"), SAMPLERS.values(), ids=SAMPLERS)
def test_the_sampler_of_the_file_is_told(doctor: Doctor, file: Path, sampler: str, level: str, words: str) -> None:
    file.write_text(FILE.format(sampler=sampler))
    [told] = doctor("--offline", OTEL_CONFIG_FILE=str(file), PLACE="http://127.0.0.1:4318").of("sampling", level)
    assert words in told and "`sampler: {parent_based: {root: {always_on: {}}}}` in" in told


def test_limits_are_those_of_the_file(doctor: Doctor, file: Path) -> None:
    both = {"OTEL_CONFIG_FILE": str(file), "PLACE": "http://127.0.0.1:4318"}
    assert doctor("--offline", OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="100", **both).levels()["limits"] == "pass"
    limits = (
        "attribute_limits: {attribute_value_length_limit: 100}\ntracer_provider:\n  limits: {event_count_limit: 8}\n"
    )
    file.write_text(file.read_text().replace("tracer_provider:\n", limits))
    long, many = doctor("--offline", **both).of("limits", "warn")
    assert "attribute_value_length_limit=100 cuts" in long and "event_count_limit=8 is below" in many


UNASKED = """
file_format: "1.0"
tracer_provider:
  processors:
    - simple: {{exporter: {traces}}}
meter_provider:
  readers:
    - pull: {{exporter: {metrics}}}
"""
CONSOLE = "{console: }"


def distributed(folder: Path, group: str, name: str) -> Path:
    """A folder with a distribution that has an exporter of that name."""
    distribution(folder, "acme", f"[{group}]\n{name} = json:JSONEncoder\n")
    return folder


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """What files and Prometheus need, as if it were installed."""
    for name in ("opentelemetry.exporter.otlp.json.file", "opentelemetry.exporter.prometheus"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


def unasked(doctor: Doctor, traces: str = CONSOLE, metrics: str = "{acme: }", *arguments: str) -> list[str]:
    """What is said of exporters that answer nothing: the level of each and its words."""
    path = doctor.folder / "otel.yaml"
    path.write_text(UNASKED.format(traces=traces, metrics=metrics))
    known = distributed(doctor.folder / "known", "opentelemetry_pull_metric_exporter", "acme")
    report = doctor(*arguments, known=known, OTEL_CONFIG_FILE=str(path))
    shutil.rmtree(known)
    return [
        f"{each['level']}: {each['what']} | {each['do']}" for each in report.findings if each["check"] == "exporters"
    ]


def test_exporters_that_answer_nothing_are_told(doctor: Doctor, packages: None) -> None:
    port, file = free_port(), doctor.folder / "spans.jsonl"
    fetched = f"{{prometheus/development: {{port: {port}}}}}"
    written = f"{{otlp_file/development: {{output_stream: 'file://{file}'}}}}"
    assert unasked(doctor) == [
        "pass: spans go to the exporter 'console', which is not asked | ",
        "pass: metrics go to the exporter 'acme', which is not asked | ",
    ]
    spans, metrics = unasked(doctor, written, fetched)
    assert spans.startswith(f"pass: spans go to {file}, by otlp_file/development of traces in ")
    assert metrics.startswith(f"pass: metrics are fetched from http://localhost:{port}/metrics, by prometheus/develop")
    assert not file.exists()
    assert unasked(doctor, "{otlp_file/development: }")[0].startswith("pass: spans go to standard output, by ")
    with socket.create_server(("localhost", port)):
        [taken] = unasked(doctor, CONSOLE, fetched)[1:]
        assert taken.startswith(f"warn: somebody listens at localhost:{port} already") and "each process" in taken
        assert unasked(doctor, CONSOLE, fetched, "--offline")[1].startswith("pass: ")


CANNOT = {
    "no such plugin": ("{other: }", "nothing that is installed has an exporter of that name"),
    "no such folder": ("{otlp_file/development: {output_stream: 'file:///nowhere/at/all.jsonl'}}", "mkdir -p /nowhere"),
    "a folder": ("{otlp_file/development: {output_stream: 'file:///tmp'}}", "/tmp cannot be written"),
    "no file": ("{otlp_file/development: {output_stream: 'spans.jsonl'}}", "is not an absolute file"),
}


@pytest.mark.parametrize(("exporter", "words"), CANNOT.values(), ids=CANNOT)
def test_an_exporter_that_no_program_can_make_is_a_failure(
    doctor: Doctor, packages: None, exporter: str, words: str
) -> None:
    told = unasked(doctor, exporter)[0]
    assert told.startswith("fail: ") and "of traces in " in told and words in told


def test_a_package_that_an_exporter_lacks_is_named(doctor: Doctor) -> None:
    spans, metrics = unasked(doctor, "{otlp_file/development: }", "{prometheus/development: }")
    assert spans.startswith("fail: otlp_file/development of traces in ") and "ModuleNotFoundError" in spans
    assert spans.endswith("| pip install opentelemetry-exporter-otlp-json-file")
    assert metrics.endswith("| pip install opentelemetry-exporter-prometheus")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_what_a_file_says_of_tls_is_not_read_and_variables_are(
    doctor: Doctor, secure: tuple[str, Path], file: Path
) -> None:
    endpoint, certificate = secure
    file.write_text(
        FILE.format(sampler=ALWAYS).replace("headers_list", f"tls: {{ca_file: {certificate}}}\n            #")
    )
    report = doctor(OTEL_CONFIG_FILE=str(file), PLACE=endpoint)
    [told] = report.of("exporters", "warn")
    assert "otlp_http of traces" in told and "OpenTelemetry does not read its `tls`" in told
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE=ca.pem" in told
    assert "certificate is not trusted" in report.of("exporters", "fail")[0], "as a program's exporter finds"
    known = {"OTEL_CONFIG_FILE": str(file), "PLACE": endpoint, "OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate)}
    report = doctor.apart(**known)  # in this process nobody is trusted
    assert report.of("exporters", "warn") == report.of("exporters", "fail") == []


FAULTS = {
    "no such file": (None, "not found"),
    "no YAML": ("a: [secret\n", "is not YAML: "),
    "another format": ('file_format: "0.3"\n', "Unsupported file_format '0.3'"),
    "a name that is not known": (
        'file_format: "1.0"\ntracer_provider: {procesors: []}\n',
        "'procesors' was unexpected",
    ),
    "a wrong value": ('file_format: "1.0"\ndisabled: secret\n', "disabled: is not as the schema has it: type "),
    "a processor of a plugin": (
        'file_format: "1.0"\ntracer_provider: {processors: [{acme: }]}\n',
        "there is no processor 'acme': expected batch or simple",
    ),
    "no provider": ('file_format: "1.0"\n', "has no tracer_provider or is disabled | nothing is recorded"),
    "no recording": (FILE.format(sampler=ALWAYS) + "disabled: true\n", "has no tracer_provider or is disabled"),
}


@pytest.mark.parametrize(("text", "words"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_cannot_be_used_is_a_failure(doctor: Doctor, file: Path, text: str | None, words: str) -> None:
    file.unlink() if text is None else file.write_text(text)
    report = doctor(OTEL_CONFIG_FILE=str(file), PLACE="http://127.0.0.1:9")
    [told] = report.of("settings", "fail")
    assert f"OTEL_CONFIG_FILE names {file}" in told and words in told and "secret" not in told
    assert report.of("exporters", "fail") == [], "nothing is asked"


def test_without_what_reads_such_a_file_that_is_told(doctor: Doctor, file: Path) -> None:
    report = doctor.apart(
        "--offline", before="import sys\nsys.modules['opentelemetry.configuration'] = None", OTEL_CONFIG_FILE=str(file)
    )
    [told] = report.of("settings", "fail")
    assert "is not installed" in told and "pip install 'spanrelay[config-file]'" in told


def test_a_program_that_is_run_sends_to_the_doctor_and_samples_as_the_file_says(
    doctor: Doctor, file: Path, collector: OtlpServer
) -> None:
    (doctor.folder / "program.py").write_text(MODEL + "ask()")
    arguments = ("--offline", "--app", "python program.py")
    report = doctor(*arguments, OTEL_CONFIG_FILE=str(file), PLACE=collector.url)
    assert any("spans that arrived: 1, of model calls: 1" in told for told in report.of("app", "pass"))
    file.write_text(FILE.format(sampler="{always_off: }"))
    report = doctor(*arguments, OTEL_CONFIG_FILE=str(file), PLACE=collector.url)
    assert not any("spans that arrived: 1" in told for told in report.of("app"))
    assert collector.asked == []
