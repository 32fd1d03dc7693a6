"""Stand between programs of any language and model providers: spans, policy and trajectories of what they ask."""

from __future__ import annotations

import argparse
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec

from spanrelay import config
from spanrelay._voice import say
from spanrelay.cli.stopping import stop_on_signals
from spanrelay.errors import ConfigurationError
from spanrelay.instrumentation.apis import BASES

PORT = 4350
_NEEDED = ("aiohttp", "httptools", "uvicorn")

EXAMPLES = (
    "spanrelay gateway",
    "spanrelay gateway --upstream groq=https://api.groq.com/openai/v1",
    "spanrelay gateway --host 0.0.0.0 --token-variable GATEWAY_TOKEN",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `gateway` takes."""
    parser.add_argument("--config", metavar="FILE", help="the policy; by default the spanrelay.toml that there is")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (%(default)s)")
    parser.add_argument("--port", type=int, default=PORT, help="the port; 0 takes a free one (%(default)s)")
    parser.add_argument(
        "--upstream",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a provider's base URL, as its SDK takes it; openai, anthropic and gemini are there",
    )
    parser.add_argument(
        "--token-variable",
        metavar="NAME",
        help="the environment variable with a token that every request must know; needed where others can connect",
    )
    parser.add_argument(
        "--grace", type=float, default=30.0, metavar="SECONDS", help="how long a stop waits for answers (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, then let what is on its way come to its end; a second signal cuts it.

    Raises:
        ConfigurationError: a setting, the policy or an upstream is not valid, or nobody can listen there; nothing has
            been started.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"the gateway needs {', '.join(missing)}: pip install 'spanrelay[gateway]'")
    upstreams, token = dict(map(_upstream, options.upstream)), token_of(options.token_variable)
    from spanrelay.gateway import start  # what the other commands do not need
    from spanrelay.runtime import activate

    settings = config.load_strictly()
    if options.config is not None:
        settings = replace(settings, config_file=options.config)
    activate(settings, instrument=False)
    stopped = stop_on_signals()
    gateway = start(host=options.host, port=options.port, secret=token, upstreams=upstreams)
    below = "" if token is None else f"/r/${options.token_variable}"
    print(*_told(gateway.upstreams, gateway.address + below), sep="\n", flush=True)
    stopped.wait_until_set()
    stop = threading.Thread(target=gateway.stop, args=(options.grace,), daemon=True)
    stop.start()
    while stop.is_alive() and stopped.times < 2:
        stop.join(0.1)
    if gateway.exchanges:
        say(f"{gateway.exchanges} answers were cut")
    return 0


def _upstream(given: str) -> tuple[str, str]:
    name, equals, url = given.partition("=")
    if not equals:
        raise ConfigurationError(f"--upstream {given!r} must be NAME=URL, as in groq=https://api.groq.com/openai/v1")
    return name, url


def token_of(variable: str | None) -> str | None:
    """Return the token in an environment variable; None where none is named.

    Raises:
        ConfigurationError: it is not there, or is none that a URL can have.
    """
    if variable is None:
        return None
    token = config.variable(variable) or ""
    if not re.fullmatch(r"[A-Za-z0-9._~-]{16,}", token):
        raise ConfigurationError(
            f"{variable} must hold a token of 16 characters or more, letters, digits and '._~-': openssl rand -hex 16"
        )
    return token


def _told(upstreams: Mapping[str, str], address: str) -> Iterator[str]:
    """Yield the lines that say which base URL a program is to be given in place of its provider's own."""
    yield f"spanrelay gateway: listening at {address}"
    for name, url in upstreams.items():
        yield f"  {BASES[name].variable if name in BASES else 'base URL'}={address}/{name}  for {url}"
