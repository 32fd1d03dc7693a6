"""`python -m benchmarks.turn ROW [--quick]`: one turn of one row, with the packages of this environment, as JSON.

Names what the packages do not have and the row needs, apart from any other fault: an earlier build has less.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks import rows
from benchmarks.environments import tree_of
from benchmarks.measure import QUICK, Effort

_TURN = Effort(seconds=2.0, rounds=8, calls=20)


def main() -> int:
    """Measure, and print one line of JSON: the results, or why there are none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turn", description=__doc__.split("\n")[0])
    parser.add_argument("row", choices=rows.ROWS)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    found: dict[str, Any] = {"tree": str(tree_of("spanrelay"))}
    try:
        found["results"] = [each.to_json() for each in rows.measure(chosen.row, QUICK if chosen.quick else _TURN)]
    except (ImportError, AttributeError, TypeError) as error:
        found["missing"] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
