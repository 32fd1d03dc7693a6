"""`docs/reference/api.md` and `modules.md`: the public API, read from the sources without importing them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[2]
PACKAGE: Any = griffe.load(
    "spanrelay",
    search_paths=[ROOT / "src"],
    docstring_parser="google",
    docstring_options={"returns_named_value": False, "returns_multiple_items": False, "warnings": False},
)

GROUPS: dict[str, tuple[str, ...]] = {
    "Record": ("activate", "flush", "Settings", "Runtime"),
    "Say where work belongs": ("scope", "scoped", "start_scope", "current_scope", "mark", "Scope"),
    "Make calls of your own": (
        *("tool", "agent", "run_tool", "arun_tool", "run_model", "arun_model", "stream_model", "astream_model"),
        *("start_tool", "start_model", "pipeline.started.StartedTool", "pipeline.started.StartedModel"),
        "pipeline.started.StartedScope",
    ),
    "Hold policy": (
        *("guardrail", "request_intercept", "execution_intercept", "stream_intercept", "gate", "use", "without"),
        *("registry.Handle", "pipeline.call.Call", "pipeline.model.ModelCall", "pipeline.call.Response"),
    ),
    "Observe": (
        *("sanitizer", "metadata_injector", "subscriber", "subscribe"),
        *("Field", "Event", "ScopeEvent", "MarkEvent"),
    ),
    "Ask for trajectories": ("trajectory", "trajectories", "show"),
    "Errors": (
        *("SpanRelayError", "ConfigurationError", "GuardrailRejected", "MiddlewareError", "CodecError"),
        "TrajectoryUnavailable",
    ),
}
"""What `spanrelay` offers, by what one wants to do, and the types that it returns, which are not imported."""

MODULES: dict[str, tuple[str, ...]] = {
    "records": (
        *("SpanRecord", "ModelRequest", "ModelResponse", "Message", "Text", "Reasoning", "Media", "ToolCall"),
        *("ToolCallResponse", "Opaque", "ToolDefinition", "Usage", "Tokens", "ToolRequest", "ToolResult"),
        *("AgentRequest", "AgentResult", "AgentInfo", "ErrorInfo", "Mark", "PromptCache", "PromptTemplate"),
    ),
    "propagation": ("headers", "trace_headers", "environment", "to_json", "continued", "join", "identified"),
    "testing": ("recorded", "recorded_settings", "record", "Recorded", "ToolCall", "Refusal"),
    "gateway": ("start", "new_secret", "Gateway", "Limits"),
    "plugins": ("Plugin", "Context", "Diagnostic", "Secret"),
    "plugins.activation": ("current_activation", "Activation"),
    "plugins.policy": ("approve_with", "ApprovalRequest"),
    "plugins.pricing": ("price",),
    "plugins.pii": ("Redactor", "Rule", "problems", "Problem"),
    "plugins.pii_redaction": ("sanitizers", "PiiRedactionConfig", "Profile"),
    "exporters.otlp": ("OtlpSpanExporter", "OtlpMetricExporter"),
    "exporters.atif": ("AtifExporter",),
    "exporters.atof": ("AtofSpanExporter",),
}

MADE: dict[str, tuple[str, ...]] = {
    "Activation": ("diagnostics", "reload", "close"),
    "AtifExporter": (),
    "AtofSpanExporter": (),
    "Call": ("kind", "request"),
    "Context": ("use", "on_close"),
    "Event": (
        *("kind", "uuid", "parent_uuid", "name", "timestamp", "data", "metadata", "category", "category_profile"),
        *("to_dict", "to_json"),
    ),
    "Gateway": ("address", "base_url", "stop"),
    "Handle": ("remove",),
    "MarkEvent": (),
    "ModelCall": ("wire", "with_request"),
    "OtlpMetricExporter": (),
    "Plugin": ("name", "config_model", "validate", "register"),
    "Recorded": (
        *("spans", "records", "model_calls", "tool_calls", "refused", "tokens", "trajectories", "trajectory"),
        *("configure", "clear"),
    ),
    "Response": ("record", "incomplete"),
    "Runtime": ("flush", "trajectories", "sessions", "shutdown", "deactivate"),
    "Scope": ("session_id", "user_id", "metadata", "use", "mark", "set_result", "trajectory"),
    "ScopeEvent": (
        *("scope_category", "attributes", "input", "output", "model_name", "tool_call_id"),
        *("annotated_request", "annotated_response"),
    ),
    "scope": (),
    "Settings": ("spans_have_content", "events_have_content"),
    "StartedModel": ("span", "end"),
    "StartedScope": ("scope", "span", "end"),
    "StartedTool": ("span", "end"),
}
"""Classes of which not all is for programs, most of them made by SpanRelay: what is."""
CALLED = frozenset({"scope"})
"""Those of them that a program makes itself."""

SECTIONS = {"parameters": "Arguments", "attributes": "Attributes", "raises": "Raises", "returns": "Returns"}
WIDTH = 100


def found(path: str) -> Any:
    """What `path` names below the package, where it is defined."""
    named = PACKAGE[path]
    return named.final_target if named.is_alias else named


def parameters(each: Any) -> Iterator[str]:
    """The parameters as they are written, with the marks of those by place and by name alone."""
    before = None
    for parameter in each.parameters:
        kind = parameter.kind.value
        if before == "positional-only" != kind:
            yield "/"
        if kind == "keyword-only" and before not in ("keyword-only", "variadic positional"):
            yield "*"
        before = kind
        if parameter.name == "self":
            continue
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        text = f"{stars}{parameter.name}" + (f": {parameter.annotation}" if parameter.annotation else "")
        yield text if parameter.default is None or stars else f"{text} = {parameter.default}"
    if before == "positional-only":
        yield "/"


def signature(each: Any, name: str) -> str:
    """How it is called, over several lines where one is too long."""
    given = list(parameters(each))
    decorators = {str(decorator.value) for decorator in each.decorators}
    returned = "" if each.kind.value == "class" or each.returns is None else f" -> {each.returns}"
    if "contextmanager" in decorators:
        returned = returned.replace("Generator[", "AbstractContextManager[")
    head = ("async " if "async" in each.labels else "") + name
    line = f"{head}({', '.join(given)}){returned}"
    return line if len(line) <= WIDTH else f"{head}(\n" + "".join(f"    {one},\n" for one in given) + f"){returned}"


def signatures(each: Any, name: str) -> str:
    """The code block of how it is called: the forms with options where there are several."""
    is_class = each.kind.value == "class"
    ways = (not is_class and each.overloads) or []
    keyword = "class " if is_class else "def "
    text = "\n".join(f"@{signature(way, name)}" for way in ways) or (keyword + signature(each, name))
    text = text.replace("def async ", "async def ")
    return f"```py\n{text}\n```\n"


def told(each: Any, left_out: tuple[str, ...] = ()) -> str:
    """The docstring as Markdown, without some of its sections."""
    parts: list[str] = []
    for section in each.docstring.parsed if each.docstring is not None else ():
        kind = section.kind.value
        if kind in left_out:
            continue
        if kind == "text":
            parts.append(section.value + "\n")
        elif kind == "admonition":
            lines = re.sub(r"\n +", " ", section.value.description).splitlines()
            items = (re.sub(r"^(\w+):", r"- `\1`:", line) + "\n" for line in lines)
            parts.append(f"**{section.title}**\n\n" + "".join(items))
        else:
            items = (item(kind, one) for one in section.value)
            parts.append(f"**{SECTIONS[kind]}**\n\n" + "".join(items))
    return "\n".join(parts)


def item(kind: str, one: Any) -> str:
    """A line of a list: an argument, an error, or what is returned."""
    text = " ".join(one.description.split())
    if kind == "returns":
        return f"- {text}\n"
    names = str(one.annotation).strip("()") if kind == "raises" else one.name
    return f"- {', '.join(f'`{name.strip()}`' for name in names.split(','))}: {text}\n"


def members(each: Any) -> Iterator[Any]:
    """What a class has that is for a program."""
    names = MADE.get(each.name)
    if names is not None:
        inherited = each.all_members
        yield from (inherited[name] for name in names)
        return
    for name, member in each.members.items():
        if not name.startswith("_") and member.docstring is not None:
            yield member


def member_line(member: Any) -> str:
    member = member.final_target if member.is_alias else member
    text = told(member).strip()
    first, _, rest = text.partition("\n\n")
    if member.kind.value == "function":
        called = signature(member, member.name)
    else:
        called = f"{member.name}: {member.annotation}" if member.annotation is not None else member.name
    called = " ".join(called.split()).replace("( ", "(").replace(", )", ")")
    more = "".join(f"\n  {line}" if line else "\n" for line in f"\n{rest}".splitlines()) if rest else ""
    return f"- `{called}`" + (f": {' '.join(first.split())}" if first else "") + f"{more}\n"


def entry(path: str) -> str:
    """One name, with all there is to say of it."""
    each = found(path)
    name = each.name
    parts = [f"### `{name}`\n"]
    is_called = name not in MADE or name in CALLED
    if is_called:
        parts.append(signatures(each, name))
    parts.append(told(each, () if is_called else ("parameters", "raises")))
    if each.kind.value == "class":
        lines = "".join(map(member_line, members(each)))
        parts += ["**Members**\n", lines] if lines else []
    return "\n".join(parts)


def linked(text: str, names: Iterable[str]) -> str:
    """Let a name of another entry lead there, unless it is a plain word, as arguments are called too."""
    told_apart = [name for name in sorted(names) if not name.islower() or "_" in name]
    word = re.compile(rf"(?<![\[`#])`({'|'.join(told_apart)})`(?![`\]])")

    def link(line: str) -> str:
        return line if line.startswith("#") else word.sub(lambda match: f"[`{match[1]}`](#{match[1].lower()})", line)

    blocks = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(block if block.startswith("```") else "\n".join(map(link, block.split("\n"))) for block in blocks)


API_HEAD = """\
# The API

What `import spanrelay` offers, as its docstrings have it, and the types that it hands out. What is for special work is
in [sub-modules](modules.md); all else is internal and may change. The pages of tasks have it at work:
[scopes](../scopes.md), [policy](../policy.md), [observation](../observation.md), [trajectories](../trajectories.md).
"""

MODULES_HEAD = """\
# Public sub-modules

Imported by their own names, as in `from spanrelay import propagation`. What is not listed here or in [the API](api.md)
is internal and may change.
"""


def api() -> str:
    parts = [API_HEAD]
    for title, paths in GROUPS.items():
        parts += [f"## {title}\n", *map(entry, paths)]
    return linked("\n".join(parts), {found(path).name for paths in GROUPS.values() for path in paths})


def modules() -> str:
    parts = [MODULES_HEAD]
    for module, names in MODULES.items():
        text = PACKAGE[module].docstring.value.partition("\n\n")[0]
        parts += [f"## `spanrelay.{module}`\n", f"{text}\n", *(entry(f"{module}.{name}") for name in names)]
    return "\n".join(parts)
