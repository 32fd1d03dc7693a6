"""Print what completes these commands in a shell, for its start-up file."""

from __future__ import annotations

import argparse

from spanrelay.errors import ConfigurationError

SHELLS = ("bash", "zsh", "fish", "tcsh")

EXAMPLES = (
    'eval "$(spanrelay completion bash)"                # in ~/.bashrc',
    "spanrelay completion zsh > ~/.zfunc/_spanrelay     # in a folder of $fpath",
    "spanrelay completion fish > ~/.config/fish/completions/spanrelay.fish",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what `completion` takes."""
    parser.add_argument("shell", choices=SHELLS, help="which shell")


def run(options: argparse.Namespace) -> int:
    """Print the shell's program; `options.whole` is the parser of all commands.

    Raises:
        ConfigurationError: the library that writes it is not installed.
    """
    try:
        import shtab  # an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError("completion needs shtab: pip install 'spanrelay[cli]'") from error
    print(shtab.complete(options.whole, options.shell))
    return 0
