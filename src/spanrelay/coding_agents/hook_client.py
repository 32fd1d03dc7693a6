"""What a coding agent runs at a hook: hands the hook's JSON to `spanrelay run`, and prints what that answers.

It is run as `python -I -S hook_client.py AGENT` before every tool, and so imports nothing that is not in the
interpreter already. Where nobody answers, the policy files alone are asked, in a process that imports more; where that
fails too, a tool that policy would judge does not run, and anything else goes on.

It has no package around it then, and imports nothing of ours.
"""

import os
import sys
from _socket import AF_INET, SOCK_STREAM, socket

PATIENCE_S = 590.0
"""Seconds for an answer, which a person may have to give: less than what the agents are told to wait."""

BEFORE_TOOLS = (b"PreToolUse", b"PermissionRequest", b"BeforeTool", b"preToolUse", b"permissionRequest")
"""Events after which a tool may run, as they stand in what an agent hands over."""

JUDGED = (b"PreToolUse", b"BeforeTool", b"preToolUse")
"""Those of them that name the tool for policy to judge."""

REFUSED = 2
"""The exit status by which every agent takes a hook to refuse; what is on stderr is why."""


def asked(place: str, agent: str, hook: bytes) -> "bytes | None":
    """Return what the run at `place` (`PORT/SECRET`) answers to a hook; None where it does not."""
    port, _, path = place.partition("/")
    connection = socket(AF_INET, SOCK_STREAM)
    try:
        connection.settimeout(5.0)
        connection.connect(("127.0.0.1", int(port)))
        connection.settimeout(PATIENCE_S)
        head = f"POST /{path}/hooks/{agent} HTTP/1.0\r\nContent-Length: {len(hook)}\r\n\r\n"
        connection.sendall(head.encode() + hook)
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    except (OSError, ValueError):
        return None
    finally:
        connection.close()
    head_of, separator, body = answer.partition(b"\r\n\r\n")
    return body if separator and head_of[9:12] == b"200" else None


def alone(agent: str, hook: bytes) -> int:
    """Let the policy files be asked by a process of its own, and return the status to end with."""
    import subprocess

    command = [sys.executable, "-I", "-m", "spanrelay", "hook", "--alone", agent]
    place = os.environ.get("SPANRELAY_RUN_DIRECTORY")  # where the policy file was found that holds for the run
    try:
        done = subprocess.run(command, input=hook, stdout=subprocess.PIPE, timeout=PATIENCE_S, cwd=place)
    except (OSError, subprocess.SubprocessError):
        done = None
    if done is not None and done.returncode == 0:
        sys.stdout.buffer.write(done.stdout)
        return 0
    if done is not None and done.returncode == REFUSED:
        return REFUSED  # it has said why
    if os.environ.get("SPANRELAY_HOOKS_HOLD") and any(event in hook for event in BEFORE_TOOLS):
        sys.stderr.write("spanrelay: the policy cannot be asked, so no tool may run\n")
        return REFUSED
    return 0


def policy_files() -> "list[str]":
    """Return where policy files may be, as `spanrelay.config` says it."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    named = [os.environ.get(name, "") for name in ("SPANRELAY_CONFIG", "OTEL_CONFIG_FILE")]
    return ["/etc/spanrelay/spanrelay.toml", *filter(None, named), "spanrelay.toml", f"{home}/spanrelay/spanrelay.toml"]


def main() -> int:
    """Answer one hook; one that was installed for good leaves it to a run where one is under way."""
    hook = sys.stdin.buffer.read()
    agent, place = sys.argv[1], os.environ.get("SPANRELAY_HOOKS", "")
    if sys.argv[2:] == ["installed"] and not os.environ.get("SPANRELAY_HOOKS_LASTING"):
        about_tool = any(event in hook for event in BEFORE_TOOLS)
        if place or (about_tool and not any(os.path.lexists(path) for path in policy_files())):
            return 0
    answer = asked(place, agent, hook) if place else None
    if answer is None:
        return alone(agent, hook)
    sys.stdout.buffer.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
