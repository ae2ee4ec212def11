"""Formulas beside traces of families with Liger's modules: `python liger_traces.py FAMILY METHOD ...` prints errors.

A process of its own: what Liger's import leaves behind, and that it is installed, is nothing to other tests.
"""

from __future__ import annotations

import json
import sys

from preflight.derive.costs.formula_table import compare
from preflight.plugins import load_plugins


def main() -> None:
    """Print the error of every peak, with its name."""
    words, plugins, errors = sys.argv[1:], load_plugins(), {}
    for family, method in zip(words[::2], words[1::2], strict=True):
        for checkpointing in (False, True):
            for number, compared in enumerate(compare(family, method, checkpointing, plugins)):
                errors[f"{family}, {method}, {checkpointing}, {number}"] = compared.error
    print(json.dumps(errors))


if __name__ == "__main__":
    main()
