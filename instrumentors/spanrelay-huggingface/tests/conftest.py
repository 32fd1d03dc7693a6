"""The tests of this package run where the SDK is."""

from importlib.util import find_spec

collect_ignore_glob: list[str] = []

if find_spec("huggingface_hub") is None:  # it has an environment of its own: see test_environment.py
    collect_ignore_glob.append("test_[!e]*.py")
