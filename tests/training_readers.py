"""The libraries that read training files, in an environment of their own, without the deep-learning library beneath.

What of them cannot be imported without that is taken from their source by name: their own code runs all the same.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.own_environment import alone_at

from spanrelay_testkit import environments

HOME = Path.home() / ".cache" / "spanrelay" / f"training-venv-{sys.version_info[0]}.{sys.version_info[1]}"
PYTHON = HOME / "bin" / "python"
LIBRARIES = ("datasets==5.2.0", "transformers==5.24.0", "jinja2")
WITHOUT_WHAT_THEY_NEED = ("trl==1.16.0", "unsloth_zoo==2026.10.9", "llamafactory==0.9.5")
"""Whose requirements are gigabytes."""
WANTED = repr((LIBRARIES, WITHOUT_WHAT_THEY_NEED))
READY = HOME / "ready"
NEW_ENOUGH = sys.version_info >= (3, 11)

needs_training_readers = pytest.mark.skipif(
    not NEW_ENOUGH or not (READY.exists() or os.environ.get("SPANRELAY_TEST_TRAINING") == "1"),
    reason="set SPANRELAY_TEST_TRAINING=1, on Python 3.11 or newer, to test with datasets, TRL, Unsloth, LLaMA-Factory",
)

READ = '''
import abc, ast, enum, importlib.util, json, sys, types, typing
from dataclasses import dataclass
from pathlib import Path

import datasets
import trl.data_utils
from transformers.utils.chat_template_utils import render_jinja_template

def source(package, path):
    return Path(importlib.util.find_spec(package).submodule_search_locations[0]) / path

def pieces(path, names, **given):
    """Run the definitions of `names` in a file, with what they need `given`."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if getattr(node, "name", None) in names
                 or any(getattr(target, "id", None) in names for target in getattr(node, "targets", []))]
    module = sys.modules["taken.from_source"] = types.ModuleType("taken.from_source")
    module.__dict__.update(given, __package__="taken")
    exec(compile(tree, path, "exec"), module.__dict__)
    return module

def unsloth(rows):
    sys.modules["taken"] = types.ModuleType("taken")
    processes = sys.modules["taken.dataset_num_proc"] = types.ModuleType("taken.dataset_num_proc")
    processes.get_dataset_num_proc = lambda wanted: None
    names = {"standardize_data_formats", "_normalize_role_alias", "_ROLE_KEY_NAMES"}
    kinds = {"Dataset": datasets.Dataset, "IterableDataset": datasets.IterableDataset}
    module = pieces(source("unsloth_zoo", "dataset_utils.py"), names, **kinds)
    return list(module.standardize_data_formats(rows)["conversations"])

def llama_factory(rows):
    """The rows that its converter takes, with the settings that it has for ShareGPT unless told otherwise."""
    folder = source("llamafactory", "data")
    role = pieces(folder / "data_utils.py", {"Role"}, StrEnum=enum.StrEnum, unique=enum.unique).Role
    needs = {"Role": role, "dataclass": dataclass, "abstractmethod": abc.abstractmethod, "Any": typing.Any}
    quiet = types.SimpleNamespace(warning_rank0=lambda *said: None)
    module = pieces(folder / "converter.py", {"DatasetConverter", "SharegptDatasetConverter"}, logger=quiet,
                    Union=typing.Union, MediaType=typing.Any, **needs)
    attr = pieces(folder / "parser.py", {"DatasetAttr"}, dataclass=dataclass, Literal=typing.Literal, Any=typing.Any,
                  Optional=typing.Optional).DatasetAttr("file", "rows", formatting="sharegpt")
    converter = module.SharegptDatasetConverter(attr, None)
    return [row for row in map(converter, rows) if row["_prompt"] and row["_response"]]

def rendered(rows, templates):
    found = {}
    for name in templates:
        template = source("trl", f"chat_templates/{name}.jinja").read_text()
        found[name] = [
            render_jinja_template([row["messages"]], tools=json.loads(row["tools"]) or None, chat_template=template,
                                  bos_token="<s>", eos_token="</s>")[0][0]
            for row in rows if trl.data_utils.is_conversational(row)
        ]
    return found

form, file, cache = sys.argv[1:]
rows = datasets.load_dataset("json", data_files=file, split="train", cache_dir=cache)
told = {"rows": list(rows)}
if form == "sharegpt":
    told |= {"unsloth": unsloth(rows), "llama_factory": len(llama_factory(rows))}
elif form == "trl":
    told["rendered"] = rendered(rows, ["qwen3", "qwen3_5_think", "qwen3_8", "llama3", "glm4moe", "nemotron_3_nano"])
print(json.dumps(told))
'''


def interpreter() -> Path:
    """Return the Python of the environment, made on first use."""
    with alone_at(HOME):
        if not READY.exists() or READY.read_text() != WANTED:
            environments.make(HOME)
            environments.install(HOME, LIBRARIES)
            environments.install(HOME, WITHOUT_WHAT_THEY_NEED, alone=True)
            READY.write_text(WANTED)
    return PYTHON


def read(form: str, file: Path, folder: Path) -> dict[str, Any]:
    """Return what the readers of a format make of a file."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [interpreter(), "-c", READ, form, file, folder / "cache"],
        env={**outside, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
