"""Documents to look at: one with everything that a page tells of, one that is hostile, and one of any length."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

HOSTILE = "<script>owned=1</script><img src=x onerror=owned=1><a href='javascript:owned=1'>x</a>"
HIDDEN = "\x1b[2J\x1b]8;;http://127.0.0.1/\x07 \u202egpj.exe\u2066 \U000e0041\x00"
BREAKOUTS = (
    HOSTILE,
    '"><svg onload=owned=1>',
    "' onmouseover=owned=1 '",
    "</script></style></div></details></body>" + HOSTILE,
    "<!--<script>owned=1//-->",
    "{{ 7 * 7 }}{% include 'head.html' %}",
    "<style>*{display:none}</style><base href=//127.0.0.1/><meta http-equiv=refresh content=0;url=//127.0.0.1/>",
    HIDDEN,
)


def step(number: int, source: str, message: Any, **more: Any) -> dict[str, Any]:
    """A step, ten seconds after the one before it."""
    moment = f"2026-03-01T10:{number * 10 // 60:02}:{number * 10 % 60:02}Z"
    return {"step_id": number, "source": source, "message": message, "timestamp": moment, **more}


def document(steps: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A document of these steps."""
    agent = {"name": "travel-agent", "version": "2.1", "model_name": "gpt-5"}
    return {"schema_version": "ATIF-v1.8", "session_id": "trip-7", "agent": agent, "steps": steps, **more}


def newer() -> dict[str, Any]:
    """A run of a version that nobody has published: fields, a kind of step and a kind of part that are not known."""
    film = {"type": "video", "source": {"media_type": "video/mp4", "path": "fjord.mp4"}}
    steps = [
        step(1, "user", [{"type": "text", "text": "What is this?"}, film]),
        step(2, "environment", "The door opens.", llm_call_count=1),
        step(3, "agent", "A fjord.", plan=["look", "say"], metrics={"prompt_tokens": 9, "watts": 5}),
    ]
    return document(steps) | {"schema_version": "ATIF-v1.12", "mood": {"calm": 0.9}}


def call(name: str, result: Any, seconds: float = 0.4, start: str = "", **extra: Any) -> tuple[dict[str, Any], ...]:
    """A tool call and its result."""
    identity = f"call-{name}"
    origin = {"otel": {"start": start}} if start else {}
    return (
        {"tool_call_id": identity, "function_name": name, "arguments": {"city": "Oslo"}},
        {"source_call_id": identity, "content": result, "extra": {"duration_sec": seconds, **origin, **extra}},
    )


def trip() -> dict[str, Any]:
    """A run with a sub-agent, one in another file, one refused call, one that failed, a picture and a long text."""
    weather = call("get_weather", "8 °C, rain", start="2026-03-01T10:00:33Z")
    booking = call("book", "no seat is left", 0.2, start="2026-03-01T10:00:34Z", is_error=True)
    wiping = call("delete_trip", "Error: refused")
    wiping[0]["extra"] = {"refused": "tool 'delete_trip' is denied by 'delete_*'"}
    expert = call("ask_expert", "The train is faster.")
    expert[1]["subagent_trajectory_ref"] = [{"trajectory_id": "expert"}]
    remote = call("ask_clerk", [{"type": "text", "text": "See the ticket."}, picture("images/ticket.png")])
    remote[1]["subagent_trajectory_ref"] = [{"trajectory_path": "clerk.json"}]
    spent = {"prompt_tokens": 1200, "cached_tokens": 900, "completion_tokens": 50, "cost_usd": 0.0123}
    took = {"duration_sec": 3.0}
    return document(
        [
            step(1, "system", "You plan trips."),
            step(2, "user", "How do I get from Bergen to Oslo?"),
            step(3, "agent", "I will look.", metrics=spent, extra=took, **calls(weather, booking, wiping)),
            step(4, "agent", "", metrics=spent, extra=took, **calls(expert), reasoning_content="Rain: ask the expert."),
            step(5, "agent", "", metrics=spent, extra=took, **calls(remote)),
            step(6, "agent", "\n".join(f"{hour}:00 train" for hour in range(400)), metrics=spent, extra=took),
            step(7, "agent", "", extra={"error": {"type": "spanrelay.errors.GuardrailRejected", "message": "spent"}}),
        ],
        subagent_trajectories=[
            {
                "schema_version": "ATIF-v1.8",
                "trajectory_id": "expert",
                "agent": {"name": "rail-expert", "version": "1"},
                "steps": [step(1, "user", "Train or plane?"), step(2, "agent", "The train, by a needle.", extra=took)],
            }
        ],
    )


def calls(*made: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """The fields of a step with these calls."""
    return {"tool_calls": [each[0] for each in made], "observation": {"results": [each[1] for each in made]}}


def clerk() -> dict[str, Any]:
    """What the sub-agent in the file beside `trip` did."""
    return document([step(1, "user", "A ticket to Oslo."), step(2, "agent", "Here it is.", llm_call_count=1)])


def picture(path: str, kind: str = "image/png") -> dict[str, Any]:
    """A part of a message that is a picture."""
    return {"type": "image", "source": {"media_type": kind, "path": path}}


def png(width: int = 40, height: int = 20) -> bytes:
    """The bytes of a grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def hostile(server: str) -> dict[str, Any]:
    """A document in which whatever can be a text is an attack, or an address of a server."""
    attacks = [*BREAKOUTS, f"<img src={server}/a><link rel=stylesheet href={server}/b>", f"url({server}/c)"]
    everything = "\n".join(attacks)
    steps = [
        step(
            number,
            "agent",
            [
                {"type": "text", "text": attack},
                picture(f"{server}/{number}.png"),
                picture(attack),
                picture("../secret.png"),
                picture("images/evil.png"),
                {"type": "audio", "source": {"media_type": "audio/wav", "path": f"javascript:{attack}"}},
            ],
            model_name=attack,
            reasoning_content=attack,
            reasoning_effort=attack,
            tool_calls=[
                {
                    "tool_call_id": attack,
                    "function_name": attack,
                    "arguments": {attack: attack},
                    "extra": {"refused": attack},
                }
            ],
            observation={
                "results": [
                    {
                        "source_call_id": attack,
                        "content": everything,
                        "extra": {"error": {"type": attack, "message": attack}, "incomplete": attack},
                        "subagent_trajectory_ref": [
                            {"trajectory_id": attack},
                            {"trajectory_path": "../outside.json"},
                            {"trajectory_path": f"{server}/sub.json"},
                        ],
                    }
                ]
            },
            extra={
                "agent_name": attack,
                "finish_reason": attack,
                "would_refuse": [attack],
                "context_management": {"type": attack},
                "otel": {"span_id": attack},
                attack: attack,
            },
        )
        for number, attack in enumerate(attacks, 1)
    ]
    return document(
        steps,
        session_id=everything,
        trajectory_id=everything,
        notes=everything,
        continued_trajectory_ref=everything,
        agent={
            "name": everything,
            "version": everything,
            "model_name": everything,
            "tool_definitions": [{"type": everything, "function": {"name": everything, "description": everything}}],
        },
        extra={"user": everything, "metadata": {everything: everything}, "status": everything},
    )


def long(count: int, lines: int = 30) -> dict[str, Any]:
    """A document of so many steps, with results of so many lines."""
    head = {"schema_version": "ATIF-v1.7", "session_id": "long", "agent": {"name": "worker", "version": "1"}}
    steps: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        if number % 10 == 1:
            steps.append({"step_id": number, "source": "user", "message": f"Task {number}: look at the next file."})
            continue
        made = calls(call("read_file", "\n".join(f"{line} of file {number}" for line in range(lines))))
        metrics = {"prompt_tokens": number * 10, "completion_tokens": 40}
        moment = f"2026-03-01T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z"
        steps.append(
            {
                "step_id": number,
                "source": "agent",
                "message": f"Reading file {number}.",
                "timestamp": moment,
                "metrics": metrics,
                "extra": {"duration_sec": 0.5, "otel": {"span_id": f"{number:016x}"}},
                **made,
            }
        )
    return {**head, "steps": steps}


def put(folder: Path, name: str, content: dict[str, Any]) -> Path:
    """Write a document."""
    folder.mkdir(parents=True, exist_ok=True)
    (path := folder / name).write_text(json.dumps(content))
    return path
