"""Shows the pages of a folder in the browser until somebody stops it.

The address holds the secret, and other users of a machine see what programs are called with: so the browser is given
a file that only its owner can read, which leads there.
"""

from __future__ import annotations

import shutil
import tempfile
import webbrowser
from pathlib import Path

from spanrelay._voice import say
from spanrelay.cli.stopping import Stop
from spanrelay.view.live import Live
from spanrelay.view.serving import Site

_LEADS = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={}"><title>spanrelay</title>'


def show(live: Live, port: int, stopped: Stop, *, browser: bool) -> int:
    """Serve until `stopped`; returns the exit status.

    Raises:
        ConfigurationError: nobody can listen at the port, or the package that makes pages is not installed.
    """
    site = Site(live, port)
    folder = Path(tempfile.mkdtemp(prefix="spanrelay-"))  # readable by its owner alone
    try:
        print(f"spanrelay watch: {site.address}", flush=True)
        if browser:
            (way := folder / "watch.html").write_text(_LEADS.format(site.address))
            if not webbrowser.open(way.as_uri()):
                say("no browser could be opened here; open the address in one")
        stopped.wait_until_set()
    finally:
        site.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 0
