"""A collector that is killed and started again for each line on the input: `python -m tests.collecting.killed FOLDER`.

It prints the port of each. Started anew, but not imported anew, it is there in a tenth of the time.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from spanrelay.collecting.serving import Options, start


def main() -> None:
    """Do so until the input ends."""
    running = 0
    for _ in sys.stdin:
        kill(running)
        running = os.fork()
        if not running:
            collector = start(Options(Path(sys.argv[1]), http=("127.0.0.1", 0), grpc=None, silence=0.2))
            print(collector.http_port, flush=True)
            signal.pause()
    kill(running)


def kill(process: int) -> None:
    """Kill a process and wait for its end; 0 is none."""
    if process:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


if __name__ == "__main__":
    main()
