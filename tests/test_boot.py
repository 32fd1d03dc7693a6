"""The ways in: our distro, two distros, another's, a config file with either, from code, and settings gone wrong."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.programs import ASK, NOTHING_RECORDED, Run, run

from spanrelay_testkit.model_server import ModelServer

ANSWER = "You said: hello"

OTHER = """
from opentelemetry import trace
from opentelemetry.instrumentation.distro import BaseDistro
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


class Distro(BaseDistro):
    def _configure(self, **kwargs):
        print("another distro", flush=True)


class Configurator:
    def configure(self, **kwargs):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
        trace.set_tracer_provider(provider)
        print("another configurator", flush=True)
"""

CONFIG = """
file_format: "1.0"
tracer_provider:
  processors:
    - simple:
        exporter:
          console: {}
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def another_distro(tmp_path: Path) -> str:
    """A folder for PYTHONPATH that holds an installed distribution of another vendor."""
    folder = tmp_path / "vendor"
    metadata = folder / "other_distro-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "other_distro.py").write_text(OTHER)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other-distro\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[opentelemetry_distro]\nother = other_distro:Distro\n"
        "[opentelemetry_configurator]\nother = other_distro:Configurator\n"
    )
    return str(folder)


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    path = tmp_path / "otel.yaml"
    path.write_text(CONFIG)
    return str(path)


def check_recorded(ran: Run) -> None:
    assert (ran.code, ran.err.count("Traceback")) == (0, 0), ran.err
    assert ANSWER in ran.out
    assert ran.said == ["hello", ANSWER]


def test_our_distro_records(tmp_path: Path, server: ModelServer) -> None:
    ran = run(ASK, tmp_path, server)
    check_recorded(ran)
    folder = tmp_path / ".spanrelay" / "trajectories"
    assert ran.err.splitlines() == [f"spanrelay: trajectories, with message content, are written to {folder}"]


def test_two_distros_record(tmp_path: Path, server: ModelServer, another_distro: str) -> None:
    check_recorded(run(ASK, tmp_path, server, PYTHONPATH=another_distro))


def test_under_another_distro_its_pipeline_gets_our_spans_too(
    tmp_path: Path, server: ModelServer, another_distro: str
) -> None:
    ran = run(
        ASK, tmp_path, server, PYTHONPATH=another_distro, OTEL_PYTHON_DISTRO="other", OTEL_PYTHON_CONFIGURATOR="other"
    )
    check_recorded(ran)
    assert "another configurator" in ran.out
    assert '"name": "chat m"' in ran.out
    assert '"gen_ai.usage.input_tokens"' in ran.out


def test_a_config_file_builds_the_pipeline(tmp_path: Path, server: ModelServer, config_file: str) -> None:
    ran = run(ASK, tmp_path, server, OTEL_CONFIG_FILE=config_file)
    check_recorded(ran)
    assert '"name": "chat m"' in ran.out


def test_a_config_file_under_another_distro(
    tmp_path: Path, server: ModelServer, config_file: str, another_distro: str
) -> None:
    ran = run(
        ASK, tmp_path, server, OTEL_CONFIG_FILE=config_file, PYTHONPATH=another_distro, OTEL_PYTHON_DISTRO="other"
    )
    check_recorded(ran)


def test_from_code_without_the_command(tmp_path: Path, server: ModelServer) -> None:
    program = "import spanrelay, spanrelay_openai, os, sys\n"
    program += f"if os.getpid() == {os.getpid()}: sys.exit()\n"
    program += "spanrelay.activate()\nspanrelay_openai.OpenAIInstrumentor().instrument()\n" + ASK
    check_recorded(run(program, tmp_path, server, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="*"))


def test_a_program_that_makes_no_call_says_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    ran = run("print('done')", tmp_path)
    assert (ran.code, ran.out, ran.err) == (0, "done\n", "")
    assert not (tmp_path / ".spanrelay").exists()


def test_child_processes_are_silent_and_record_too(tmp_path: Path, server: ModelServer) -> None:
    program = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {ASK!r}], check=True)\n"
    ran = run(program, tmp_path, server)
    check_recorded(ran)


def test_a_broken_setting_is_one_error_and_the_program_runs(tmp_path: Path, server: ModelServer) -> None:
    ran = run(ASK, tmp_path, server, SPANRELAY_TRAJECTORIES="sometimes")
    assert (ran.code, ran.out.strip()) == (0, ANSWER)
    assert (
        ran.err.strip() == "spanrelay: SPANRELAY_TRAJECTORIES='sometimes' is not valid; "
        "use on, all, memory or off; no trajectories are written"
    )
    assert ran.trajectories == []


def test_an_unknown_name_is_one_warning(tmp_path: Path) -> None:
    program = "import spanrelay\nspanrelay.activate()\n"
    for launched in (True, False):
        ran = run(program, tmp_path, launched=launched, SPANRELAY_TRAJECTORY="off")
        told = "did you mean SPANRELAY_TRAJECTORY_DIR or SPANRELAY_TRAJECTORIES?"
        assert ran.err == f"spanrelay: SPANRELAY_TRAJECTORY is not a setting; {told}\n"
        ran = run(program, tmp_path, launched=launched, OTEL_SERVICENAME="mine")
        told = "did you mean OTEL_SERVICE_NAME?"
        assert ran.err == f"spanrelay: OTEL_SERVICENAME is not a variable of OpenTelemetry's; {told}\n"


def test_settings_that_come_second_are_told_where_they_differ(tmp_path: Path) -> None:
    program = "from spanrelay import Settings, activate\n"
    program += "activate(Settings(dialect='openinference', quiet=True))\nactivate()\nimport openai\n"
    program += "activate(Settings(dialect='openinference', quiet=True))\n"
    assert run(program, tmp_path).err == ""
    program += "activate(Settings(quiet=True, disabled=True))\n"
    told = (
        "spanrelay: SpanRelay is already active with other settings, which stay in force; ignored: disabled, dialect\n"
    )
    assert run(program, tmp_path).err == told


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OTEL_TRACES_EXPORTER", "otpl", r" is not valid; use .*\bconsole, otlp\b.*; 'otpl' is left out"),
        ("OTEL_METRICS_EXPORTER", "foo", r" is not valid; use console, otlp\b.*; 'foo' is left out"),
        ("OTEL_LOGS_EXPORTER", "foo", r" is not valid; use console, otlp\b.*; 'foo' is left out"),
        ("OTEL_PYTHON_ID_GENERATOR", "foo", " is not valid; use random; the default, random, is used"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", " is not a whole number above 0; 20000 is used"),
        ("OTEL_BSP_SCHEDULE_DELAY", "5s", " is not a whole number above 0; 5000 is used"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "-1", " is not a whole number above 0; 2048 is used"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "20001", " is above OTEL_BSP_MAX_QUEUE_SIZE, which is 20000; 20000 is used"),
        (
            "OTEL_METRICS_EXEMPLAR_FILTER",
            "foo",
            " cannot be used: ValueError: .*; what .* had not set up by then stays off",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "127.0.0.1:4318",
            " has no scheme; put http:// or https:// in front; 'otlp' is left out",
        ),
        ("OTEL_CONFIG_FILE", "/nope.yaml", " cannot be used: .*not found.*; nothing is exported"),
    ],
)
def test_a_mistyped_variable_of_opentelemetry_is_one_error_and_stops_nothing_else(
    tmp_path: Path, server: ModelServer, variable: str, value: str, told: str
) -> None:
    ran = run(ASK, tmp_path, server, SPANRELAY_QUIET="true", **{variable: value})
    check_recorded(ran)
    [line] = ran.err.splitlines()
    assert re.fullmatch(re.escape(f"spanrelay: {variable}={value!r}") + told, line)


def test_a_queue_that_is_shorter_than_a_batch_exports_in_shorter_batches(tmp_path: Path, server: ModelServer) -> None:
    ran = run(
        ASK,
        tmp_path,
        server,
        SPANRELAY_QUIET="true",
        OTEL_TRACES_EXPORTER="console",
        OTEL_LOGS_EXPORTER="console",
        OTEL_BSP_MAX_QUEUE_SIZE="10",
        OTEL_BLRP_MAX_QUEUE_SIZE="10",
    )
    assert '"name": "chat m"' in ran.out
    assert ran.err == ""


def test_of_several_exporters_the_unknown_one_is_left_out(tmp_path: Path, server: ModelServer) -> None:
    ran = run(ASK, tmp_path, server, SPANRELAY_QUIET="true", OTEL_TRACES_EXPORTER="otpl,console")
    check_recorded(ran)
    assert '"name": "chat m"' in ran.out
    assert ran.err.startswith("spanrelay: OTEL_TRACES_EXPORTER='otpl,console' is not valid; ")
    assert ran.err.endswith("; 'otpl' is left out\n")


def test_an_unknown_protocol_is_one_error_and_http_is_used(tmp_path: Path, server: ModelServer) -> None:
    ran = run(
        ASK
        + "from opentelemetry import trace\nprint(trace.get_tracer_provider()._active_span_processor._span_processors"
        "[0].span_exporter._delivery.exporter)",
        tmp_path,
        server,
        SPANRELAY_QUIET="true",
        OTEL_EXPORTER_OTLP_PROTOCOL="grcp",
        OTEL_EXPORTER_OTLP_ENDPOINT=server.url,
        OTEL_LOGS_EXPORTER="otlp",
    )
    assert ran.code == 0
    assert "opentelemetry.exporter.otlp.proto.http" in ran.out
    told = (
        "spanrelay: OTEL_EXPORTER_OTLP_PROTOCOL='grcp' is not valid; use http/protobuf or grpc; http/protobuf is used"
    )
    assert ran.err.splitlines().count(told) == 1


LOGS = """
import logging, sys
logging.basicConfig(stream=sys.stderr, format="%(name)s says: %(message)s")
"""


@pytest.mark.parametrize(("setup", "begins"), [("", "spanrelay: "), (LOGS, "spanrelay says: ")])
def test_a_line_of_ours_says_whose_it_is_also_where_no_logging_is_set_up(
    tmp_path: Path, setup: str, begins: str
) -> None:
    program = f"{setup}import spanrelay\nspanrelay.activate()\nspanrelay.activate(spanrelay.Settings(quiet=True))\n"
    told = "SpanRelay is already active with other settings, which stay in force; ignored: quiet\n"
    assert run(program, tmp_path, launched=False).err == begins + told


def test_every_line_of_a_message_says_whose_it_is(tmp_path: Path) -> None:
    program = "import logging\nfrom spanrelay._guard import guarded\n"
    program += "with guarded('counting'):\n    1 / 0\n"
    program += "try:\n    1 / 0\nexcept ZeroDivisionError:\n"
    program += "    logging.getLogger('spanrelay').warning('failed', exc_info=True, stack_info=True)\n"
    lines = run(program, tmp_path, launched=False).err.splitlines()
    assert [line for line in lines if not line.startswith("spanrelay: ")] == []
    assert sum("ZeroDivisionError" in line for line in lines) == 2
    assert any("Stack (most recent call last)" in line for line in lines)


def test_activate_refuses_a_mistyped_variable_of_opentelemetry(tmp_path: Path) -> None:
    program = "import spanrelay\ntry:\n    spanrelay.activate()\nexcept spanrelay.ConfigurationError as error:\n"
    program += "    print(error)\n"
    for variable, value in [("OTEL_TRACES_EXPORTER", "otpl"), ("OTEL_CONFIG_FILE", "/nope.yaml")]:
        ran = run(program, tmp_path, launched=False, **{variable: value})
        assert ran.out.startswith(f"{variable}={value!r} "), ran.err
        assert ran.err == ""


def test_a_broken_setting_that_two_parts_read_is_told_once(tmp_path: Path, server: ModelServer) -> None:
    settings = {"OTEL_TRACES_EXPORTER": "atof", "SPANRELAY_ATOF_MODE": "never", "SPANRELAY_QUIET": "true"}
    ran = run(ASK, tmp_path, server, **settings)
    check_recorded(ran)
    assert ran.err == (
        "spanrelay: SPANRELAY_ATOF_MODE='never' is not valid; use append or overwrite; no events are written\n"
    )


def test_a_broken_content_setting_gives_nothing_away(tmp_path: Path, server: ModelServer) -> None:
    ran = run(
        ASK,
        tmp_path,
        server,
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="yes please",
        OTEL_TRACES_EXPORTER="console",
    )
    assert ran.code == 0
    assert "is not valid" in ran.err
    assert '"name": "chat m"' in ran.out
    assert "You said" not in ran.out.replace(ANSWER, "", 1)
    assert ran.trajectories == []


def test_a_disabled_sdk_records_nothing(tmp_path: Path, server: ModelServer) -> None:
    ran = run(ASK + ASK, tmp_path, server, OTEL_SDK_DISABLED="true")
    assert (ran.code, ran.out, ran.err) == (0, f"{ANSWER}\n{ANSWER}\n", NOTHING_RECORDED)
    assert not (tmp_path / ".spanrelay").exists()


def test_a_disabled_sdk_is_told_once_where_it_matters(tmp_path: Path) -> None:
    activated = "import spanrelay\nspanrelay.activate()\nspanrelay.activate()\nimport openai\n"
    for program, launched, told in (
        ("import json", True, ""),
        (activated, True, NOTHING_RECORDED),
        (activated, False, NOTHING_RECORDED),
        ("import spanrelay\nspanrelay.activate(spanrelay.Settings(disabled=True))", False, ""),
    ):
        assert run(program, tmp_path, launched=launched, OTEL_SDK_DISABLED="true").err == told
    assert run(activated, tmp_path, OTEL_SDK_DISABLED="true", SPANRELAY_QUIET="true").err == ""


def test_policy_holds_where_the_sdk_is_disabled(tmp_path: Path, server: ModelServer) -> None:
    program = "import spanrelay\nspanrelay.use(spanrelay.guardrail(name='no')(lambda call: 'not today'))\n"
    program += f"try:\n    exec({ASK!r})\nexcept spanrelay.GuardrailRejected as refusal:\n    print(refusal.reason)\n"
    ran = run(program, tmp_path, server, OTEL_SDK_DISABLED="true")
    assert ran.out.strip() == "not today"
    assert server.requests == []


def test_trajectories_follow_sampling(tmp_path: Path, server: ModelServer) -> None:
    ran = run(ASK, tmp_path, server, OTEL_TRACES_SAMPLER="always_off")
    assert (ran.code, ran.out.strip(), ran.trajectories) == (0, ANSWER, [])


def test_trajectories_of_unsampled_traces_are_written_when_asked_for(tmp_path: Path, server: ModelServer) -> None:
    ran = run(
        ASK,
        tmp_path,
        server,
        OTEL_TRACES_SAMPLER="always_off",
        SPANRELAY_TRAJECTORIES="all",
        OTEL_TRACES_EXPORTER="console",
    )
    check_recorded(ran)
    assert '"name": "chat m"' not in ran.out


@pytest.mark.skipif(os.geteuid() == 0 and sys.platform == "win32", reason="needs file permissions")
def test_a_folder_that_cannot_be_written_is_said_and_harms_nobody(tmp_path: Path, server: ModelServer) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    ran = run(ASK, tmp_path, server, SPANRELAY_TRAJECTORY_DIR=str(blocked))
    assert (ran.code, ran.out.strip()) == (0, ANSWER)
    refusal, loss = ran.err.splitlines()
    assert refusal == f"spanrelay: trajectories cannot be written to {blocked}: a file with this name already exists"
    lost = r"spanrelay: lost or left out: 1 trajectory not rendered, \d+ trajectory operations not written"
    assert re.fullmatch(lost, loss)


def test_the_line_about_trajectories_says_where_spans_go_and_shows_no_credentials(
    tmp_path: Path, server: ModelServer
) -> None:
    endpoint = server.url.replace("://", "://user:secret@") + "?key=secret"
    ran = run(ASK, tmp_path, server, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_METRICS_EXPORTER="none")
    [line] = [line for line in ran.err.splitlines() if "are written to" in line]
    assert line.endswith(f"/.spanrelay/trajectories; spans go to {server.url} without message content")
    assert "secret" not in line


def test_the_line_about_trajectories_says_nothing_of_an_endpoint_that_gets_no_spans(
    tmp_path: Path, server: ModelServer
) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.url, "OTEL_METRICS_EXPORTER": "none"}
    ran = run(ASK, tmp_path, server, OTEL_TRACES_EXPORTER="console", **endpoint)
    assert ran.err.endswith("are written to " + str(tmp_path / ".spanrelay" / "trajectories") + "\n")


def test_nothing_is_said_of_trajectories_where_none_is_written(tmp_path: Path, server: ModelServer) -> None:
    assert run(ASK, tmp_path, server, OTEL_TRACES_SAMPLER="always_off").err == ""
    program = "from opentelemetry import trace\nwith trace.get_tracer('app').start_as_current_span('work'):\n    pass\n"
    ran = run(program, tmp_path)
    assert (ran.err, ran.trajectories) == ("", [])


def test_a_program_that_changes_its_directory_is_recorded_where_it_began(tmp_path: Path, server: ModelServer) -> None:
    (tmp_path / "elsewhere").mkdir()
    program = ASK + "import os\nos.chdir('elsewhere')\n" + ASK.replace("hello", "hello from elsewhere")
    ran = run(program, tmp_path, server)
    assert ran.said.count("hello from elsewhere") == 1, ran.err
    assert not (tmp_path / "elsewhere" / ".spanrelay").exists()


def test_keys_are_masked_in_trajectories_and_spans(tmp_path: Path, server: ModelServer) -> None:
    key = "sk-" + "a1B2" * 8
    ran = run(
        ASK.replace('"hello"', f'"my key is {key}"'),
        tmp_path,
        server,
        OTEL_TRACES_EXPORTER="console",
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="span_only",
    )
    assert ran.code == 0
    assert ran.said[0] == "my key is [masked key]"
    assert key not in ran.out.split("\n", 1)[1]
    assert server.requests[0].body["messages"][0]["content"] == f"my key is {key}"


FORKED_WHILE_RECORDING_BEGINS = """
import os, signal, sys, threading
import spanrelay

def work(name):
    with spanrelay.scope(name, kind="tool") as tool:
        tool.set_result(1)

thread = threading.Thread(target=work, args=("thread",))
thread.start()
while "spanrelay.runtime" not in sys.modules:  # from here on the thread imports it
    pass
pid = os.fork()
if not pid:
    signal.alarm(30)
    work("child")
    sys.exit(0)
thread.join()
print(os.waitpid(pid, 0)[1])
"""


def test_a_child_that_is_forked_while_another_thread_begins_to_record_records_too(tmp_path: Path) -> None:
    ran = run(FORKED_WHILE_RECORDING_BEGINS, tmp_path)
    assert ran.out == "0\n", ran.err
    tools = [
        call["function_name"] for each in ran.trajectories for step in each["steps"] for call in step["tool_calls"]
    ]
    assert sorted(tools) == ["child", "thread"]


def test_a_forked_child_records_its_own_calls(tmp_path: Path, server: ModelServer) -> None:
    program = ASK + "import os\npid = os.fork()\n" + ASK.replace("hello", "hello again")
    program += "if pid: os.waitpid(pid, 0)\nelse: import sys; sys.exit(0)\n"
    ran = run(program, tmp_path, server)
    assert ran.code == 0, ran.err
    assert ran.said.count("hello again") == 2
    assert ran.said.count("hello") == 1
