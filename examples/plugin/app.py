"""An application that knows nothing of the plugin: it runs three tools, and says what became of them."""

import spanrelay


def run(name: str, **arguments: str) -> None:
    """Run one tool as an agent would, and print what comes of it."""
    try:
        print(spanrelay.run_tool(name, lambda **given: f"{name}: done", arguments))
    except spanrelay.GuardrailRejected as refusal:
        print(f"{name}: {refusal.reason}")


with spanrelay.scope("operator", session="demo"):
    run("list_disks")
    run("delete_disk", disk="a")
    run("delete_disk", disk="a", ticket="CHG-4711")
    run("format_disk", disk="a", ticket="CHG-4711")
