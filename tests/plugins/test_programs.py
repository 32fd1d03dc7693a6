"""Unmodified programs under `opentelemetry-instrument`, with nothing but a `spanrelay.toml` beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.plugins.installed import distribution
from tests.programs import ASK, NOTHING_RECORDED, Run, run

from spanrelay_testkit.model_server import ModelServer

DENY = '[plugins.policy]\nmodels.deny = ["m"]\n'
WARN = '[policy]\non_failure = "warn"\n'
REFUSED = "model 'm' is denied by 'm'"

EVERY_WAY = """
import asyncio, openai, spanrelay
hello = [{"role": "user", "content": "hello"}]
client, later = openai.OpenAI(), openai.AsyncOpenAI()

async def all_of(calls):
    for call in calls:
        try:
            result = call()
            if hasattr(result, "__await__"):
                await result
            print("sent")
        except spanrelay.GuardrailRejected as refusal:
            print(refusal.reason)

asyncio.run(all_of([
    lambda: client.chat.completions.create(model="m", messages=hello),
    lambda: client.chat.completions.create(model="m", messages=hello, stream=True),
    lambda: client.chat.completions.with_raw_response.create(model="m", messages=hello),
    lambda: later.chat.completions.create(model="m", messages=hello),
    lambda: later.chat.completions.create(model="m", messages=hello, stream=True),
    lambda: later.chat.completions.with_raw_response.create(model="m", messages=hello),
    lambda: client.responses.create(model="m", input="hello"),
    lambda: client.embeddings.create(model="m", input="hello"),
    lambda: spanrelay.run_tool("delete_file", print, "deleted"),
]))
"""


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


def configure(folder: Path, text: str, name: str = "spanrelay.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def check_stopped(ran: Run, *said: str) -> None:
    """The program has not run a line, and stderr says why and nothing else."""
    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err
    assert "Fatal Python error" not in ran.err
    assert [line for line in ran.err.splitlines() if not line.startswith("spanrelay: ")] == []
    for each in said:
        assert each in ran.err, ran.err


@pytest.mark.parametrize("settings", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_SAMPLER": "always_off"}])
def test_what_is_denied_is_never_sent_in_any_form(
    tmp_path: Path, server: ModelServer, settings: dict[str, str]
) -> None:
    configure(tmp_path, DENY + 'tools.deny = ["delete_*"]')
    ran = run(EVERY_WAY, tmp_path, server, **settings)
    assert ran.err.count("Traceback") == 0
    assert ran.out.splitlines() == [REFUSED] * 8 + ["tool 'delete_file' is denied by 'delete_*'"]
    assert server.requests == []


def test_a_refused_call_is_in_the_trajectory(tmp_path: Path, server: ModelServer) -> None:
    configure(tmp_path, DENY)
    ran = run(ASK, tmp_path, server)
    assert ran.code == 1
    assert f"GuardrailRejected: guardrail 'policy.models' refused the call: {REFUSED}" in ran.err
    assert REFUSED in str(ran.trajectories)
    assert server.requests == []


@pytest.mark.parametrize("settings", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_SAMPLER": "always_off"}])
def test_what_is_on_trial_is_sent_in_every_form_and_told_at_the_end(
    tmp_path: Path, server: ModelServer, settings: dict[str, str]
) -> None:
    configure(tmp_path, '[policy]\nmode = "observe"\n' + DENY + 'tools.deny = ["delete_*"]')
    ran = run(EVERY_WAY, tmp_path, server, **settings)
    assert ran.err.count("Traceback") == 0
    assert (ran.code, ran.out.splitlines()) == (0, [*["sent"] * 8, "deleted", "sent"]), ran.err
    assert len(server.requests) == 8
    assert ran.err.splitlines()[-1] == "spanrelay: policy on trial would have refused 9 calls"
    if not settings:
        assert str(ran.trajectories).count(f"policy.models: {REFUSED}") == 7  # embeddings are in no trajectory


def test_a_budget_stops_the_third_call(tmp_path: Path, server: ModelServer) -> None:
    configure(tmp_path, "[plugins.policy.session]\nmax_calls = 2")
    program = "import spanrelay\nwith spanrelay.scope('agent', session='s'):\n"
    program += "".join(f"    exec({ASK!r})\n" for _ in range(3))
    ran = run(program, tmp_path, server)
    assert "this session has made 2 of the 2 model calls allowed" in ran.err
    assert len(server.requests) == 2


def test_a_broken_file_stops_the_program_before_its_first_line(tmp_path: Path, server: ModelServer) -> None:
    path = configure(tmp_path, '[plugins.policy]\nmodel.deny = ["m"]\ntools = 1\n[plugins.nothing]')
    check_stopped(
        run(f"print('first line')\n{ASK}", tmp_path, server),
        "spanrelay: the configuration cannot be put in force:",
        f"{path}: plugins.policy.model: is not known; did you mean 'models'?",
        f"{path}: plugins.policy.tools: is a whole number; write a table",
        f"{path}: plugins.nothing: no installed plugin has this name",
    )
    configure(tmp_path, "[plugins.policy")
    check_stopped(run("print('first line')", tmp_path), f"{path}: is not TOML")
    assert server.requests == []


@pytest.mark.parametrize("settings", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_CONFIG_FILE": "gone.yaml"}])
def test_a_broken_file_stops_the_program_whatever_else_is_off_or_broken(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    configure(tmp_path, "[plugins.nothing]")
    check_stopped(run("print('first line')", tmp_path, **settings), "no installed plugin has this name")


def test_a_chosen_file_that_is_not_there_stops_the_program(tmp_path: Path) -> None:
    ran = run("print('first line')", tmp_path, SPANRELAY_CONFIG="gone.toml")
    check_stopped(ran, f"{tmp_path}/gone.toml: cannot be read: No such file or directory")


@pytest.mark.parametrize("settings", ["", "spanrelay.Settings(quiet=True)"])
def test_a_chosen_file_counts_whatever_settings_the_program_makes(tmp_path: Path, settings: str) -> None:
    program = (
        f"import spanrelay\nspanrelay.activate({settings})\ntry:\n    spanrelay.run_tool('shut', print, {{}})\n"
        "except spanrelay.GuardrailRejected:\n    print('refused')"
    )
    (tmp_path / "chosen.toml").write_text('[plugins.policy]\ntools.deny = ["shut"]\n')
    ran = run(program, tmp_path, launched=False, SPANRELAY_CONFIG="chosen.toml")
    assert (ran.code, ran.out) == (0, "refused\n")


def test_a_broken_file_stops_child_processes_too(tmp_path: Path) -> None:
    program = "import subprocess, sys\nopen('spanrelay.toml', 'w').write('=')\nprint('parent', flush=True)\n"
    program += "sys.exit(subprocess.run([sys.executable, '-c', 'print(1)']).returncode)"
    ran = run(program, tmp_path)
    assert (ran.code, ran.out) == (1, "parent\n")


def test_where_a_warning_is_enough_the_program_runs_and_says_so_at_the_end(tmp_path: Path, server: ModelServer) -> None:
    configure(tmp_path, f"{WARN}{DENY}[plugins.nothing]")
    ran = run("print('hello')", tmp_path)
    assert (ran.code, ran.out) == (0, "hello\n")
    first, last = ran.err.splitlines()
    assert "plugins.nothing: no installed plugin has this name" in first
    assert last == "spanrelay: lost or left out: 1 part of the configured policy"
    ran = run(ASK, tmp_path, server)
    assert REFUSED in ran.err, "what could be put in force is"
    assert ran.err.splitlines()[-1] == last


def test_a_program_that_no_file_concerns_imports_nothing_of_plugins(tmp_path: Path) -> None:
    program = "import sys\nprint([n for n in sys.modules if n.startswith('spanrelay.pl') and n.count('.') < 2])\n"
    program += (
        "print([n in sys.modules for n in ('tomllib', 'spanrelay.plugins.activation', 'spanrelay.pipeline.call')])"
    )
    ran = run(program, tmp_path)
    assert ran.out.splitlines() == ["['spanrelay.plugins']", "[False, False, False]"]


def test_an_sdk_that_is_not_instrumented_ends_the_program_on_import(tmp_path: Path, server: ModelServer) -> None:
    configure(tmp_path, DENY)
    program = f"print('first line')\ntry:\n    import openai\nexcept BaseException:\n    pass\n{ASK}"
    broken = "[opentelemetry_instrumentor]\nbroken = broken:Broken\n"
    site = distribution(tmp_path / "site", "broken", "broken", "raise ValueError('broken')", broken)
    for settings in (
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
        {"OTEL_PYTHON_DISTRO": "none_of_these", "PYTHONPATH": str(site)},
    ):
        ran = run(program, tmp_path, server, **settings)
        assert (ran.code, ran.out) == (1, "first line\n")
        assert "'openai' is imported and not instrumented, so the configured policy does not hold" in ran.err
    configure(tmp_path, WARN + DENY)
    ran = run(program, tmp_path, server, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="*")
    assert ran.code == 0
    assert len(server.requests) == 1
    warning, last = ran.err.splitlines()
    assert "'openai' is imported and not instrumented" in warning
    assert last == "spanrelay: lost or left out: 1 part of the configured policy"


def test_an_sdk_that_other_instrumentation_imports_first_is_under_policy_all_the_same(
    tmp_path: Path, server: ModelServer
) -> None:
    configure(tmp_path, DENY)
    source = "class Early:\n    def instrument(self, **given):\n        import openai\n"
    site = distribution(
        tmp_path / "site", "early", "early", source, "[opentelemetry_instrumentor]\nearly = early:Early\n"
    )
    ran = run(ASK, tmp_path, server, PYTHONPATH=str(site))
    assert "GuardrailRejected" in ran.err
    ran = run(ASK, tmp_path, server, PYTHONPATH=str(site), OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="spanrelay_openai")
    check_stopped(ran, "'openai' is imported and not instrumented, so the configured policy does not hold")
    assert server.requests == []


BREAK = """
import importlib.abc, importlib.machinery, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "openai._base_client":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            del module.AsyncAPIClient.request

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(sys.meta_path.index(importlib.machinery.PathFinder), Finder())
"""


def test_a_patch_point_that_is_missing_ends_the_program_on_import(tmp_path: Path, server: ModelServer) -> None:
    program = f"print('first line')\n{BREAK}\ntry:\n    import openai\nexcept BaseException:\n    pass\n{ASK}"
    assert run(program, tmp_path, server).code == 0
    configure(tmp_path, DENY)
    ran = run(program, tmp_path, server)
    assert (ran.code, ran.out) == (1, "first line\n")
    assert "has no openai._base_client.AsyncAPIClient.request, so the configured policy does not hold" in ran.err
    configure(tmp_path, WARN + DENY)
    ran = run(program, tmp_path, server)
    assert REFUSED in ran.err
    assert ran.err.splitlines()[-1] == "spanrelay: lost or left out: 1 patch point not found in openai"
    assert len(server.requests) == 1


OBSERVER = """
from dataclasses import dataclass


@dataclass
class Config:
    pass


class Failing:
    name = "failing"
    config_model = Config

    def validate(self, config):
        return []

    def register(self, context):
        raise OSError("no room")
"""


def test_a_plugin_that_cannot_be_installed_stops_the_program(tmp_path: Path) -> None:
    site = distribution(
        tmp_path / "site", "other", "failing", OBSERVER, "[spanrelay_plugin]\nfailing = failing:Failing\n"
    )
    configure(tmp_path, f"{DENY}[plugins.failing]")
    ran = run("print('first line')", tmp_path, PYTHONPATH=str(site))
    check_stopped(ran, "plugins.failing: cannot be installed: OSError: no room")


def test_under_another_configurator_policy_holds_too(tmp_path: Path, server: ModelServer) -> None:
    configure(tmp_path, DENY)
    ran = run(ASK, tmp_path, server, OTEL_PYTHON_DISTRO="none_of_these")
    assert REFUSED in ran.err
    assert server.requests == []


# --- policy from code ---------------------------------------------------------------------------------------

TRY = f"""
try:
    exec({ASK!r})
except spanrelay.GuardrailRejected as refusal:
    print(refusal.reason)
"""
APPLY = "from spanrelay_openai import OpenAIInstrumentor\nOpenAIInstrumentor().instrument()\n"


@pytest.mark.parametrize(
    "beginning",
    [
        "import spanrelay\nspanrelay.activate()\n",
        "import spanrelay, openai\nspanrelay.activate()\n",
        f"import spanrelay, openai\nspanrelay.activate()\n{APPLY}",
        f"import spanrelay\n{APPLY}spanrelay.activate()\n",
    ],
)
@pytest.mark.parametrize("text", [DENY, WARN + DENY])
def test_from_code_policy_holds_whether_an_instrumentor_was_called_or_not(
    tmp_path: Path, server: ModelServer, beginning: str, text: str
) -> None:
    configure(tmp_path, text)
    ran = run(beginning + TRY, tmp_path, server, launched=False, SPANRELAY_QUIET="true")
    assert (ran.code, ran.out, ran.err) == (0, f"{REFUSED}\n", "")
    assert REFUSED in str(ran.trajectories)
    assert server.requests == []


def test_from_code_policy_holds_with_the_sdk_of_telemetry_off(tmp_path: Path, server: ModelServer) -> None:
    configure(tmp_path, DENY)
    beginning = "import spanrelay, openai\nspanrelay.activate()\n"
    ran = run(beginning + TRY, tmp_path, server, launched=False, OTEL_SDK_DISABLED="true")
    assert (ran.code, ran.out, ran.err) == (0, f"{REFUSED}\n", NOTHING_RECORDED)
    assert server.requests == []


def test_a_framework_that_no_instrumentor_was_called_for_stands_under_the_policy(tmp_path: Path) -> None:
    pytest.importorskip("langchain_core", reason="the framework is not installed")
    configure(tmp_path, '[plugins.policy]\ntools.deny = ["delete_*"]')
    program = f"""
import spanrelay
spanrelay.activate()
{APPLY}
from langchain_core.tools import tool

@tool
def delete_file(name: str) -> str:
    "Delete."
    print("deleted")
    return "deleted"

try:
    delete_file.invoke({{"name": "x"}})
except spanrelay.GuardrailRejected as refusal:
    print(refusal.reason)
"""
    ran = run(program, tmp_path, launched=False, SPANRELAY_QUIET="true")
    assert (ran.out, ran.err) == ("tool 'delete_file' is denied by 'delete_*'\n", "")


def test_spans_go_to_the_provider_that_the_application_names_afterwards(tmp_path: Path, server: ModelServer) -> None:
    configure(tmp_path, DENY)
    program = f"""
import spanrelay, openai
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from spanrelay_openai import OpenAIInstrumentor
spanrelay.activate()
own, exporter = TracerProvider(), InMemorySpanExporter()
own.add_span_processor(SimpleSpanProcessor(exporter))
OpenAIInstrumentor().instrument(tracer_provider=own)
{TRY}
print(sorted(span.name for span in exporter.get_finished_spans()))
"""
    ran = run(program, tmp_path, server, launched=False)
    assert ran.out.splitlines()[0] == REFUSED
    assert "'chat m'" in ran.out.splitlines()[1]
    assert ran.err == ""


@pytest.mark.parametrize("launched", [True, False])
def test_nobody_takes_an_instrumentor_out_while_a_files_policy_is_in_force(
    tmp_path: Path, server: ModelServer, launched: bool
) -> None:
    program = f"""
import spanrelay
from spanrelay_openai import OpenAIInstrumentor
spanrelay.activate()
try:
    OpenAIInstrumentor().uninstrument()
except spanrelay.ConfigurationError as error:
    print(error)
{TRY}
"""
    configure(tmp_path, DENY)
    ran = run(program, tmp_path, server, launched=launched)
    said, refused = ran.out.splitlines()
    assert said.startswith("'openai' stays instrumented while a configuration file has policy in force")
    assert refused == REFUSED
    assert server.requests == []
    configure(tmp_path, WARN + DENY)
    assert run(program, tmp_path, server, launched=launched).code == 0
    assert len(server.requests) == 1


OLD = """
from spanrelay.instrumentation.instrumentor import Instrumentor


class Old(Instrumentor):
    package, requires, modules, name, version = "old-sdk", ("old-sdk >= 2",), ("old_sdk",), "spanrelay_old", "1"

    def patches(self, tracing):
        return ()
"""


def test_an_sdk_of_a_version_that_is_not_supported_is_told_by_activate_or_ends_the_program(tmp_path: Path) -> None:
    entry_point = "[opentelemetry_instrumentor]\nspanrelay_old = spanrelay_old:Old\n"
    site = distribution(tmp_path / "site", "spanrelay-old", "spanrelay_old", OLD, entry_point)
    distribution(site, "old-sdk", "old_sdk", "", "")
    told = "'old-sdk' is imported and not instrumented, so the configured policy does not hold for it"
    before = "import spanrelay, old_sdk\ntry:\n    spanrelay.activate()\n"
    before += "except spanrelay.ConfigurationError as error:\n    print(error)"
    after = "import spanrelay\nspanrelay.activate()\nprint('activated', flush=True)\nimport old_sdk\nprint('imported')"
    configure(tmp_path, DENY)
    ran = run(before, tmp_path, launched=False, PYTHONPATH=str(site))
    assert (ran.code, ran.out.startswith(told)) == (0, True), ran.err
    ran = run(after, tmp_path, launched=False, PYTHONPATH=str(site))
    assert (ran.code, ran.out) == (1, "activated\n")
    assert told in ran.err
    configure(tmp_path, WARN + DENY)
    ran = run(after, tmp_path, launched=False, PYTHONPATH=str(site))
    assert (ran.code, ran.out) == (0, "activated\nimported\n")
    assert told in ran.err
    assert ran.err.splitlines()[-1] == "spanrelay: lost or left out: 1 part of the configured policy"


@pytest.mark.parametrize("importing", ["import json, spanrelay", "import spanrelay\nspanrelay.activate()\nimport json"])
def test_a_module_that_a_missing_sdk_shares_with_others_holds_nothing_up(tmp_path: Path, importing: str) -> None:
    entry_point = "[opentelemetry_instrumentor]\nspanrelay_old = spanrelay_old:Old\n"
    shared = OLD.replace('("old_sdk",)', '("old_sdk.core", "old_sdk", "json")')
    site = distribution(tmp_path / "site", "spanrelay-old", "spanrelay_old", shared, entry_point)
    configure(tmp_path, DENY)
    (tmp_path / "old_sdk.py").write_text("")  # of the program's own, by the same name
    program = f"{importing}\nimport old_sdk\nspanrelay.activate()\nprint('activated')"
    ran = run(program, tmp_path, launched=False, PYTHONPATH=str(site))
    assert (ran.code, ran.out) == (0, "activated\n"), ran.err


def test_policy_that_comes_with_a_reload_holds_for_every_sdk(tmp_path: Path, server: ModelServer) -> None:
    configure(tmp_path, '[plugins.pii_redaction.builtin]\naction = "redact"\ndetector = "email"')
    program = f"""
import spanrelay, openai, pathlib
from spanrelay.plugins.activation import current_activation
spanrelay.activate()
pathlib.Path("spanrelay.toml").write_text({DENY!r})
current_activation().reload()
{TRY}
"""
    ran = run(program, tmp_path, server, launched=False)
    assert (ran.code, ran.out) == (0, f"{REFUSED}\n"), ran.err
    assert server.requests == []
