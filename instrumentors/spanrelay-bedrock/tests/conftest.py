"""The tests of this package run where botocore is; elsewhere `test_environment.py` runs them apart."""

from importlib.util import find_spec

collect_ignore_glob: list[str] = []

if find_spec("botocore") is None:
    collect_ignore_glob.append("test_[!e]*.py")
