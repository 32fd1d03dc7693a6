"""The SDKs of the table stand in the environment of the providers' SDKs."""

from importlib.util import find_spec

collect_ignore_glob: list[str] = []

if find_spec("groq") is None:  # they have an environment of their own: see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")
