"""The real coding agents from npm, installed once into the cache folder, and runs of them in a home of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.coding_agents.model import Model
from tests.own_environment import alone_at

from spanrelay.assembly.atif import violations
from spanrelay_testkit.model_server import ModelServer

PACKAGES = (
    "node@24",
    "@anthropic-ai/claude-code@2.1.332",
    "@openai/codex@0.171.0",
    "@google/gemini-cli@0.61.0",
    "@qwen-code/qwen-code@0.24.4",
    "@github/copilot@1.0.102",
    "opencode-ai@1.18.33",
)
"""What is installed: the versions of the recorded captures."""

SWITCH = "SPANRELAY_TEST_CODING_AGENTS"

needs_agents = pytest.mark.skipif(
    os.environ.get(SWITCH) != "1" or shutil.which("npm") is None,
    reason=f"set {SWITCH}=1, where there is npm, to install the coding agents and run them",
)

PROMPTS = {
    "TASK-BASIC": "TASK-BASIC: run the command, read notes.txt and missing.txt, then tell me.",
    "TASK-SUB": "TASK-SUB: use a helper.",
    "TASK-OVERLOAD": "TASK-OVERLOAD: run it.",
}
"""What was asked where the captures were made."""


def programs() -> Path:
    """Return the folder of the agents' programs, which are installed where they are not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "spanrelay" / "coding-agents"
    ready = home / "ready"
    with alone_at(home):
        if not ready.exists() or ready.read_text() != repr(PACKAGES):
            home.mkdir(exist_ok=True)
            install = [
                "npm",
                "install",
                "--prefix",
                str(home),
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
                *PACKAGES,
            ]
            subprocess.run(install, check=True, capture_output=True)
            ready.write_text(repr(PACKAGES))
    return home / "node_modules" / ".bin"


@dataclass
class Ran:
    """What a run left."""

    code: int
    out: str
    err: str
    project: Path

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The trajectories, each valid, with the project's folder called as it is in the captures."""
        folder = self.project / ".spanrelay" / "trajectories"
        found = [path.read_text() for path in sorted(folder.glob("*.json"))]
        documents = [json.loads(text.replace(str(self.project), "/home/user/project")) for text in found]
        for document in documents:
            assert violations(document) == []
        return documents

    @property
    def document(self) -> dict[str, Any]:
        """The only trajectory."""
        (document,) = self.documents
        return document

    @property
    def unfinished(self) -> list[str]:
        """The folders of runs whose trajectories have not been written."""
        return sorted(path.name for path in (self.project / ".spanrelay" / "trajectories" / ".runs").glob("*"))


@dataclass
class World:
    """A home, a project in it, and a model that is asked from there."""

    home: Path
    server: ModelServer
    settings: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def project(self) -> Path:
        """Where agents are run."""
        return self.home / "project"

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a run: nothing of this process's but where Python is."""
        path = f"{programs()}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        return {
            "HOME": str(self.home),
            "PATH": path,
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "NODE_NO_WARNINGS": "1",
            "ANTHROPIC_BASE_URL": self.server.address,
            "ANTHROPIC_API_KEY": "sk-ant-dummy-000000000000000000000000",
            "DISABLE_AUTOUPDATER": "1",
            "DUMMY_KEY": "sk-dummy",
            "GOOGLE_GEMINI_BASE_URL": self.server.address,
            "GEMINI_API_KEY": "dummy",
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "OPENAI_BASE_URL": self.server.url,
            "OPENAI_API_KEY": "dummy",
            "OPENAI_MODEL": "qwen3-coder-plus",
            "COPILOT_OFFLINE": "true",
            "COPILOT_PROVIDER_BASE_URL": self.server.url,
            "COPILOT_PROVIDER_API_KEY": "dummy",
            "COPILOT_MODEL": "gpt-5.1",
            "COPILOT_AUTO_UPDATE": "false",
            # What it unpacks at its first start, once for all homes.
            "COPILOT_CACHE_HOME": str(programs().parents[1] / "copilot-cache"),
            "OPENCODE_CONFIG_CONTENT": json.dumps(opencode_config(self.server.url)),
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            # It would install packages for plugins into each home, and wait for that.
            "npm_config_offline": "true",
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_EXPERIMENTAL_DISABLE_FILEWATCHER": "1",
            **self.settings,
        }

    def run(
        self,
        command: Sequence[str],
        *,
        bare: bool = False,
        by: Sequence[str] = ("spanrelay",),
        options: Sequence[str] = (),
        **more: str,
    ) -> Ran:
        """Run an agent to its end, under `spanrelay run` unless `bare`; `by` is what the command is called by."""
        before = [] if bare else [*by, "run", *options]
        done = subprocess.run(
            [*before, *command],
            cwd=self.project,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr, self.project)

    def said_to_model(self) -> list[Any]:
        """The bodies of the requests of models, in order."""
        apis = ("messages", "responses", "chat/completions", "generateContent", "streamGenerateContent")
        return [each.body for each in self.server.requests if each.api in apis]

    def files(self) -> set[str]:
        """The files of the home that are not of one session, and not of a run of ours."""
        found = (path.relative_to(self.home) for path in self.home.rglob("*") if path.is_file())
        return {str(path) for path in found if ".spanrelay" not in path.parts}


def claude(task: str, *more: str) -> list[str]:
    """The command of a task for Claude Code."""
    return ["claude", "-p", PROMPTS.get(task, task), "--model", "claude-sonnet-4-5", "--allowedTools", "Bash,Read",
            "--output-format", "stream-json", "--verbose", *more]  # fmt: skip


def codex(task: str, *more: str) -> list[str]:
    """The command of a task for Codex."""
    return ["codex", "exec", "--skip-git-repo-check", "--json", *more, PROMPTS.get(task, task)]


def gemini(task: str, *more: str) -> list[str]:
    """The command of a task for Gemini CLI."""
    options = ["-m", "gemini-2.5-pro", "--approval-mode", "yolo", "-o", "stream-json"]
    return ["gemini", *options, "-p", PROMPTS.get(task, task), *more]


def qwen(task: str, *more: str) -> list[str]:
    """The command of a task for Qwen Code."""
    return ["qwen", "--approval-mode", "yolo", "-o", "stream-json", "-p", PROMPTS.get(task, task), *more]


def copilot(task: str, *more: str) -> list[str]:
    """The command of a task for Copilot CLI."""
    options = ["--allow-all-tools", "--allow-all-paths", "--no-color", "--output-format", "json"]
    return ["copilot", *options, *more, "-p", PROMPTS.get(task, task)]


def opencode(task: str, *more: str) -> list[str]:
    """The command of a task for opencode."""
    return ["opencode", "run", "--format", "json", *more, PROMPTS.get(task, task)]


COMMANDS = {
    "claude": claude,
    "codex": codex,
    "gemini": gemini,
    "qwen": qwen,
    "copilot": copilot,
    "opencode": opencode,
}


def opencode_config(url: str) -> dict[str, Any]:
    """The configuration of opencode, with a provider of its own that is asked at a URL."""
    limit = {"context": 100000, "output": 8000}
    models = {
        "mock-model": {
            "name": "mock-model",
            "tool_call": True,
            "reasoning": True,
            "limit": limit,
            "cost": {"input": 1, "output": 2, "cache_read": 0.5},
        },
        "mock-small": {"name": "mock-small", "limit": limit},
    }
    options = {"baseURL": url, "apiKey": "dummy"}
    provider = {"npm": "@ai-sdk/openai-compatible", "name": "Mock", "options": options, "models": models}
    return {
        "share": "disabled",
        "model": "mock/mock-model",
        "small_model": "mock/mock-small",
        "provider": {"mock": provider},
        "permission": {"edit": "allow", "bash": "allow", "external_directory": "allow"},
    }


SETTINGS = {
    ".gemini": {
        "general": {"enableAutoUpdate": False},
        "privacy": {"usageStatisticsEnabled": False},
        "security": {"auth": {"selectedType": "gemini-api-key"}},
    },
    ".qwen": {
        "general": {"enableAutoUpdate": False},
        "privacy": {"usageStatisticsEnabled": False},
        "security": {"auth": {"selectedType": "openai"}},
        "model": {"name": "qwen3-coder-plus"},
    },
}

CODEX_CONFIG = """
model = "gpt-5.1-codex"
model_provider = "mock"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
[model_providers.mock]
name = "mock"
base_url = "{url}"
wire_api = "responses"
env_key = "DUMMY_KEY"
[projects."{project}"]
trust_level = "trusted"
"""


@contextmanager
def world(folder: Path, *, policy: str = "", settings: Mapping[str, str] | None = None) -> Iterator[World]:
    """Make a home with a project, and with `policy` as its `spanrelay.toml`."""
    home = folder / "home"
    project = home / "project"
    project.mkdir(parents=True)
    (project / "notes.txt").write_text("The launch code is 4711.\n")
    if policy:
        (project / "spanrelay.toml").write_text(policy)
    with ModelServer(Model(str(project))) as server:
        (home / ".codex").mkdir()
        (home / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(url=server.url, project=project))
        for name, said in SETTINGS.items():
            (home / name).mkdir()
            (home / name / "settings.json").write_text(json.dumps(said))
        yield World(home, server, dict(settings or {}))
