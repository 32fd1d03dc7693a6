"""The environment of servers, queues and Lambda's runtime, and the programs that `docs/deploy.md` shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.own_environment import ROOT, programs_of
from tests.test_docs import blocks_of

wanted = pytest.mark.skipif(
    os.environ.get("SPANRELAY_TEST_WEB_SERVERS") != "1",
    reason="set SPANRELAY_TEST_WEB_SERVERS=1 to install servers, Celery, gevent and Lambda's runtime apart",
)
APP, HANDLER = (
    block.source for block in blocks_of((ROOT / "docs" / "deploy.md").read_text()) if block.language == "python"
)


def programs() -> Path:
    """Where the programs of the environment are."""
    packages = ("uvicorn", "uvicorn-worker", "gunicorn", "hypercorn", "celery", "gevent", "awslambdaric", "openai")
    return programs_of("web-servers", ("openai",), packages)
