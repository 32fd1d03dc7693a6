"""A bot with rails against the model server, every way there is to ask it, and what is seen of that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spanrelay_testkit.exchange import Answer, Request, reply
from spanrelay_testkit.model_server import ModelServer

YAML = r"""
models:
  - type: main
    engine: openai
    model: gpt-5
    parameters: {{base_url: {url}, api_key: none, max_retries: 0}}
  - {{type: embeddings, engine: letters, model: letters}}
rails:
  config:
    regex_detection:
      input:
        patterns: ['\bhunter\d+\b']
  input:
    flows: [regex check input, look closely]
  output:
    flows: [check the answer]
"""
COLANG = """
define user ask about stock
  "how many are left?"

define flow stock
  user ask about stock
  $left = execute count_stock(thing="chairs")
  bot say stock

define bot say stock
  "There are $left left."

define subflow look closely
  $fine = execute look(text=$user_message)
  if not $fine
    bot refuse to respond
    stop

define subflow check the answer
  $fine = execute look(text=$bot_message)
  if not $fine
    bot refuse to respond
    stop
"""
PLAIN = COLANG.partition("define subflow")[1] + COLANG.partition("define subflow")[2]
"""The rails without a dialog: every question goes to the model."""


LETTERS = """
class Letters:
    "Embeds a text as the letters that are in it: dialogs look for examples by likeness."

    engine_name = "letters"

    def __init__(self, embedding_model, **options):
        self.model = embedding_model

    def encode(self, documents):
        return [[float(text.lower().count(chr(97 + at))) + 0.01 for at in range(26)] for text in documents]

    async def encode_async(self, documents):
        return self.encode(documents)
"""
"""The source of `Letters`, which a program of its own needs too."""


def talk(request: Request) -> Answer:
    """An intent where one is asked for, else an echo of the user's own words."""
    prompt = request.last_user_text
    if "user intent" in prompt.lower() or "ask about stock" in prompt:
        return reply("  ask about stock")
    return reply("a secret" if "secret" in prompt else "Hello, you.")


def _letters() -> Any:
    made: dict[str, Any] = {}
    exec(LETTERS, made)
    return made["Letters"]


def bot(server: ModelServer, yaml: str = YAML, colang: str = PLAIN) -> Any:
    """Rails whose model is the server's."""
    from nemoguardrails import LLMRails, RailsConfig
    from nemoguardrails.embeddings.providers import register_embedding_provider

    with contextlib.suppress(ValueError):  # it is already registered
        register_embedding_provider(_letters())

    async def look(text: str) -> bool:
        if "crash" in text:
            raise OSError("no eyes")
        return "shady" not in text and "secret" not in text

    async def count_stock(thing: str) -> int:
        return len(thing)

    rails = LLMRails(RailsConfig.from_content(colang, yaml.format(url=server.url)))
    rails.register_action(look)
    rails.register_action(count_stock)
    return rails


def user(text: str) -> list[dict[str, str]]:
    """What a user says."""
    return [{"role": "user", "content": text}]


LOOP = asyncio.new_event_loop()
"""Where all of this runs: the toolkit keeps its clients, and a client belongs to a loop."""


def at_work(work: Coroutine[Any, Any, Any]) -> Any:
    """Wait for `work`."""
    return LOOP.run_until_complete(work)


def generated(rails: Any, text: str) -> str:
    """`await rails.generate_async(...)`."""
    return at_work(rails.generate_async(messages=user(text)))["content"]


def generated_synchronously(rails: Any, text: str) -> str:
    """`rails.generate(...)`, on the loop that the toolkit finds: in a thread that has no other."""

    def ask() -> str:
        asyncio.set_event_loop(LOOP)
        return rails.generate(messages=user(text))["content"]

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(ask).result()


def streamed(rails: Any, text: str) -> str:
    """`rails.stream_async(...)`, read to the end."""

    async def read() -> str:
        return "".join([chunk async for chunk in rails.stream_async(messages=user(text))])

    return at_work(read())


Way = Callable[[Any, str], str]
