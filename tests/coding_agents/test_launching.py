"""How agents are told where to report, as far as that can be seen without starting them."""

from __future__ import annotations

import json
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from spanrelay.coding_agents import claude
from spanrelay.coding_agents.agents import AGENTS
from spanrelay.coding_agents.folder import RunFolder
from spanrelay.coding_agents.launching import Launch, Reporting
from spanrelay.coding_agents.program import PROGRAM
from spanrelay.coding_agents.running import prepare
from spanrelay.errors import SpanRelayError

KEYS = {"OPENAI_API_KEY": "k", "GEMINI_API_KEY": "k"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


def reporting(folder: Path) -> Reporting:
    return Reporting("run-1", "http://127.0.0.1:1/s", "1/h", folder)


@pytest.mark.parametrize(
    ("agent", "command", "environment"),
    [
        ("codex", ["codex", "-c", "openai_base_url=http://elsewhere"], KEYS),
        ("codex", ["codex", "exec", "--config=model_providers.x.base_url=http://elsewhere"], KEYS),
        ("codex", ["codex", "--oss"], KEYS),
        ("claude", ["claude"], {"CLAUDE_CODE_USE_BEDROCK": "1"}),
        ("claude", ["claude"], {"CLAUDE_CODE_USE_A_CLOUD_TO_COME": "true"}),
        ("claude", ["claude"], {"ANTHROPIC_UNIX_SOCKET": "/run/models"}),
        ("claude", ["claude", "--settings", '{"env": {"CLAUDE_CODE_USE_VERTEX": "1"}}'], {}),
        ("gemini", ["gemini"], {}),
        ("gemini", ["gemini"], {**KEYS, "GOOGLE_GENAI_USE_VERTEXAI": "true"}),
        ("qwen", ["qwen", "--openai-base-url", "http://elsewhere"], KEYS),
        ("qwen", ["qwen"], {}),
        ("copilot", ["copilot"], KEYS),
        ("copilot", ["copilot"], {"COPILOT_PROVIDER_BASE_URL": "http://own", "COPILOT_PROVIDER_TYPE": "azure"}),
    ],
)
def test_where_no_gateway_can_stand_between_that_is_said(
    agent: str, command: list[str], environment: dict[str, str], home: Path
) -> None:
    with pytest.raises(SpanRelayError, match=r"gateway|OPENAI_BASE_URL"):
        AGENTS[agent].upstreams(Launch(command, environment))


@pytest.mark.parametrize(
    ("agent", "environment", "behind"),
    [
        ("claude", {"ANTHROPIC_BASE_URL": "http://own"}, {"anthropic": "http://own"}),
        ("codex", KEYS, {"openai": "https://api.openai.com/v1"}),
        ("gemini", {**KEYS, "GOOGLE_GEMINI_BASE_URL": "http://own"}, {"gemini": "http://own"}),
        ("qwen", {**KEYS, "OPENAI_BASE_URL": "http://own"}, {"openai": "http://own"}),
        ("copilot", {"COPILOT_PROVIDER_BASE_URL": "http://own"}, {"openai": "http://own"}),
        (
            "copilot",
            {"COPILOT_PROVIDER_BASE_URL": "http://own", "COPILOT_PROVIDER_TYPE": "Anthropic"},
            {"anthropic": "http://own"},
        ),
    ],
)
def test_what_the_user_asks_stands_behind_the_gateway(
    agent: str, environment: dict[str, str], behind: dict[str, str], home: Path
) -> None:
    assert AGENTS[agent].upstreams(Launch([agent], environment)) == behind


def test_codex_asks_what_its_login_is_for(home: Path) -> None:
    (home / ".codex").mkdir()
    (home / ".codex" / "auth.json").write_text('{"OPENAI_API_KEY": null, "tokens": {"access_token": "t"}}')
    assert AGENTS["codex"].upstreams(Launch(["codex"], {})) == {"openai": "https://chatgpt.com/backend-api/codex"}
    assert AGENTS["codex"].upstreams(Launch(["codex"], KEYS)) == {"openai": "https://api.openai.com/v1"}


@pytest.mark.parametrize(
    ("agent", "settings"),
    [("claude", {"disableAllHooks": True}), ("qwen", {"disableAllHooks": True})],
)
def test_hooks_that_a_user_has_switched_off_are_found_so_beforehand(
    agent: str, settings: dict[str, bool], home: Path
) -> None:
    path = AGENTS[agent].settings({}, None)
    path.parent.mkdir()
    path.write_text(json.dumps(settings))
    assert AGENTS[agent].deaf(Launch([agent], {}), home) == f"{path} says disableAllHooks"


@pytest.mark.parametrize(
    ("command", "environment", "why"),
    [
        (["claude", "--bare"], {}, "--bare is given"),
        (["claude"], {"CLAUDE_CODE_SIMPLE": "1"}, "CLAUDE_CODE_SIMPLE is set"),
        (["claude"], {"CLAUDE_CODE_SAFE_MODE": "true"}, "CLAUDE_CODE_SAFE_MODE is set"),
        (["claude"], {"CLAUDE_CODE_SAFE_MODE": "0", "CLAUDE_CODE_USE_POWERSHELL_TOOL": "1"}, None),
    ],
)
def test_ways_of_starting_claude_code_without_hooks_are_found_so_beforehand(
    command: list[str], environment: dict[str, str], why: str | None, home: Path
) -> None:
    assert AGENTS["claude"].deaf(Launch(command, environment), home) == why
    assert AGENTS["claude"].upstreams(Launch(command, environment)) == {"anthropic": "https://api.anthropic.com"}


def test_what_an_administrator_says_of_claude_code_is_looked_for_in_every_file_of_theirs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claude, "_MANAGED", home / "etc" / "managed-settings.json")
    (folder := home / "etc" / "managed-settings.d").mkdir(parents=True)
    (folder / "hooks.json").write_text('{"allowManagedHooksOnly": true}')
    (folder / "models.json").write_text('{"env": {"ANTHROPIC_BASE_URL": "http://own"}}')
    deaf = AGENTS["claude"].deaf(Launch(["claude"], {}), home)
    assert deaf == f"{folder / 'hooks.json'} says allowManagedHooksOnly"
    with pytest.raises(SpanRelayError, match=r"models\.json says ANTHROPIC_BASE_URL"):
        AGENTS["claude"].upstreams(Launch(["claude"], {}))


def test_what_a_user_exports_already_keeps_its_switches_and_headers_and_is_sent_on(home: Path) -> None:
    (home / ".codex").mkdir()
    exporter = '{ otlp-http = { endpoint = "http://own/v1/logs", protocol = "json", headers = { key = "k" } } }'
    (home / ".codex" / "config.toml").write_text(f"[otel]\nexporter = {exporter}\n")
    launch = Launch(["codex"], {"PATH": ""})
    AGENTS["codex"].prepare(launch, reporting(home))
    assert launch.onward.urls == {"logs": "http://own/v1/logs"} and launch.onward.headers == {"key": "k"}
    assert not any("log_user_prompt" in argument for argument in launch.command)
    launch = Launch(["qwen"], {"QWEN_TELEMETRY_ENABLED": "1", "QWEN_TELEMETRY_OTLP_PROTOCOL": "http",
                               "QWEN_TELEMETRY_OTLP_ENDPOINT": "http://own"})  # fmt: skip
    AGENTS["qwen"].prepare(launch, reporting(home))
    assert launch.onward.urls["traces"] == "http://own/v1/traces"
    assert "QWEN_TELEMETRY_LOG_PROMPTS" not in launch.changed


def test_telemetry_that_goes_by_grpc_is_left_where_it_goes(home: Path) -> None:
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text('[otel]\nexporter = { otlp-grpc = { endpoint = "http://own" } }\n')
    launch = Launch(["codex"], {"PATH": ""})
    AGENTS["codex"].prepare(launch, reporting(home))
    assert not any(argument.startswith("otel.exporter") for argument in launch.command)
    assert any(argument.startswith("otel.trace_exporter") for argument in launch.command)
    assert "gRPC" in launch.notes[0]
    own = {"CLAUDE_CODE_ENABLE_TELEMETRY": "1", "OTEL_LOGS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    launch = Launch(["claude"], own)
    AGENTS["claude"].prepare(launch, reporting(home))
    (settings,) = launch.files.values()
    assert set(json.loads(settings)["env"]) == {"OTEL_RESOURCE_ATTRIBUTES"}


OPENCODE = """#!/bin/sh
cat <<'END'
{"model": "own/m", "small_model": "anthropic/small", "disabled_providers": ["google"],
 "provider": {"own": {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": "http://own"}},
              "cloud": {"npm": "@ai-sdk/amazon-bedrock", "options": {"baseURL": "http://cloud"}},
              "openai": {}}}
END
"""


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ([], None),
        (["-m", "openai/gpt"], "openai"),
        (["--model=cloud/m"], "cloud"),
        (["-m", "google/g"], "google"),
    ],
)
def test_opencode_asks_no_provider_but_those_behind_the_gateway(
    more: list[str], refused: str | None, home: Path
) -> None:
    (home / "opencode").write_text(OPENCODE)
    (home / "opencode").chmod(0o755)
    logins = home / ".local" / "share" / "opencode" / "auth.json"
    logins.parent.mkdir(parents=True)
    logins.write_text('{"openai": {"type": "oauth"}, "anthropic": {"type": "api"}}')
    launch = Launch([str(home / "opencode"), "run", *more, "hello"], {})
    if refused is not None:
        told = f"cannot stand between opencode and {refused}, .* before anthropic, own"
        with pytest.raises(SpanRelayError, match=told):
            AGENTS["opencode"].upstreams(launch)
        return
    behind = AGENTS["opencode"].upstreams(launch)
    assert behind == {"anthropic": "https://api.anthropic.com/v1", "own": "http://own"}
    AGENTS["opencode"].prepare(launch, replace(reporting(home), gateways=dict.fromkeys(behind, "http://gateway")))
    content = json.loads(launch.changed["OPENCODE_CONFIG_CONTENT"])
    assert content["enabled_providers"] == ["anthropic", "own"]
    assert content["provider"]["own"] == {"options": {"baseURL": "http://gateway"}}


def test_what_the_environment_configures_of_opencode_already_is_kept(home: Path) -> None:
    given = {"model": "m", "plugin": ["own"], "experimental": {"batch_tool": True}}
    launch = Launch(["opencode"], {"OPENCODE_CONFIG_CONTENT": json.dumps(given)})
    AGENTS["opencode"].prepare(launch, reporting(home))
    content = json.loads(launch.changed["OPENCODE_CONFIG_CONTENT"])
    [plugin] = launch.files
    assert content["plugin"] == ["own", plugin.as_uri()]
    assert content["experimental"] == {"batch_tool": True, "openTelemetry": True}
    assert content["model"] == "m"
    with pytest.raises(SpanRelayError, match="OPENCODE_CONFIG_CONTENT cannot be read"):
        AGENTS["opencode"].prepare(Launch(["opencode"], {"OPENCODE_CONFIG_CONTENT": "{nonsense"}), reporting(home))


@pytest.mark.parametrize(
    ("command", "environment", "why"),
    [
        (["opencode"], {}, None),
        (["opencode", "run", "--pure", "hello"], {}, "--pure is given"),
        (["opencode"], {"OPENCODE_PURE": "1"}, "OPENCODE_PURE is set"),
        (["opencode", "attach", "http://own"], {}, "attach leaves the tools to a server that runs already"),
        (["opencode", "run", "--attach=http://own"], {}, "--attach=http://own leaves the tools to a server"),
    ],
)
def test_ways_of_starting_opencode_without_hooks_are_found_so_beforehand(
    command: list[str], environment: dict[str, str], why: str | None, home: Path
) -> None:
    assert (AGENTS["opencode"].deaf(Launch(command, environment), home) or "None").startswith(str(why))


@pytest.mark.parametrize("place", [".copilot/settings.json", "project/.github/copilot/settings.local.json"])
def test_hooks_that_copilot_is_told_not_to_run_are_found_so_beforehand(place: str, home: Path) -> None:
    assert AGENTS["copilot"].deaf(Launch(["copilot"], {}), home) is None
    (home / place).parent.mkdir(parents=True)
    (home / place).write_text('{"disableAllHooks": true}')
    assert str(AGENTS["copilot"].deaf(Launch(["copilot"], {}), home)).endswith("says disableAllHooks")


def test_telemetry_that_variables_send_already_is_sent_on_as_it_is_and_else_tells_all(home: Path) -> None:
    launch = Launch(["copilot"], {})
    AGENTS["copilot"].prepare(launch, reporting(home))
    assert launch.changed["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] == "true"
    assert launch.changed["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:1/s"
    own = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://own/", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces"}
    launch = Launch(["copilot"], own)
    AGENTS["copilot"].prepare(launch, reporting(home))
    assert "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT" not in launch.changed
    assert (launch.onward.urls["traces"], launch.onward.urls["metrics"]) == ("http://traces", "http://own/v1/metrics")
    assert launch.changed["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "http://127.0.0.1:1/s/v1/traces"
    for elsewhere in ({"COPILOT_OTEL_FILE_EXPORTER_PATH": "spans"}, {"COPILOT_OTEL_EXPORTER_TYPE": "file"}):
        launch = Launch(["copilot"], elsewhere)
        AGENTS["copilot"].prepare(launch, reporting(home))
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in launch.changed and "and not here" in launch.notes[0]


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({}, None),
        ({"no_proxy": "intern"}, None),
        ({"https_proxy": "http://proxy:1"}, "127.0.0.1,localhost"),
        ({"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "intern, localhost"}, "intern,localhost,127.0.0.1"),
        ({"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "*"}, None),
    ],
)
def test_what_an_agent_reports_goes_by_no_proxy(known: dict[str, str], told: str | None, tmp_path: Path) -> None:
    launch = Launch(["program"], known)
    prepare(PROGRAM, launch, reporting(tmp_path))
    assert [launch.changed.get(name) for name in ("NO_PROXY", "no_proxy")] == [told, told]


@pytest.mark.swallows
def test_what_cannot_be_kept_whole_leaves_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.add_telemetry(b"whole", is_json=False)
    [kept] = (tmp_path / "run").iterdir()
    before = kept.read_bytes()
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # what is imported meanwhile would be cut off, and kept so
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        folder.add_telemetry(b"more than there is room for", is_json=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert kept.read_bytes() == before
    folder.add_telemetry(b"whole", is_json=False)
    assert kept.read_bytes() == before * 2
