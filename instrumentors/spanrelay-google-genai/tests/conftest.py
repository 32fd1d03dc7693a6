"""The Google Gen AI SDK with the instrumentor at work."""

from importlib.util import find_spec

collect_ignore_glob: list[str] = []

if find_spec("google") is None or find_spec("google.genai") is None:  # see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")
