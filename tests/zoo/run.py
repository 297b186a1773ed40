"""Exports models that are not ours, and compares what the runtime computes with `jax.jit`.

    python tests/zoo/run.py                   # all of them, as a table
    python tests/zoo/run.py BERT 'GPT-2'      # these
    python tests/zoo/run.py --table FILE      # the table into a document, between its marks

The exit status is 1 where one fails that is not known to. `make zoo` installs what it needs.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import equinox_models
import haiku_models
import jax
import keras_models
import numpy as np
import transformers_models

from case import Make
from lumina_jax import export

FAMILIES = (keras_models, transformers_models, haiku_models, equinox_models)
MODELS: dict[str, Make] = {name: make for f in FAMILIES for name, make in f.MODELS.items()}
WITHIN = 1e-4
"""Largest difference from JAX, in parts of the largest output; to another input it is far more."""
BEGIN, END = "<!-- Written by tests/zoo/run.py; do not edit. -->\n", "<!-- End of the table. -->\n"


class Result(NamedTuple):
    """How a model did."""

    name: str
    passed: bool
    words: str
    nodes: int = 0
    difference: float = 0.0
    control: float = 0.0

    def row(self) -> str:
        """Its line of the table."""
        if not self.nodes:
            return f"| {self.name} | no: {self.words} | | | |"
        numbers = f"{self.nodes} | {self.difference:.0e} | {self.control:.0e}"
        return f"| {self.name} | {'yes' if self.passed else 'no'} | {numbers} |"


def run(name: str) -> Result:
    """Exports a model, and runs it on its example and on another input."""
    try:
        function, params, inputs = MODELS[name]()
        model = export.export(function, *inputs, params=params)
        expected = jax.jit(function)(params, *inputs)
        others = [x[::-1] * 2 if x.dtype.kind == "f" else (x + 1) % 90 for x in inputs]
        difference = _difference(model(*inputs), expected)
        control = _difference(model(*others), expected)
    except Exception as fault:
        return Result(name, False, str(fault).splitlines()[0][:200])
    passed = difference <= WITHIN < control
    return Result(name, passed, "", sum(model.ops.values()), difference, control)


def _difference(got: Any, expected: Any) -> float:
    """The largest of all outputs, in parts of the largest number of each."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    arrays = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in arrays)


def table(results: list[Result]) -> str:
    """The results in Markdown."""
    passed = sum(result.passed for result in results)
    head = f"{passed} of {len(results)} pass.\n\n| model | exports | nodes | difference | control |"
    rows = "\n".join(result.row() for result in results)
    return f"\n{head}\n|---|---|---|---|---|\n{rows}\n\n"


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="MODEL", help="all, if none is named")
    parser.add_argument("--table", type=Path, help="a document that the whole table goes into")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in MODELS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(MODELS)}")
    warnings.simplefilter("ignore")
    results = []
    for name in options.names or MODELS:
        start = time.perf_counter()
        results.append(run(name))
        print(f"{results[-1].row()} {time.perf_counter() - start:.0f} s", flush=True)
    print(table(results).splitlines()[1])
    if options.table and not options.names:
        before, rest = options.table.read_text(encoding="utf-8").split(BEGIN)
        _, after = rest.split(END)
        text = before + BEGIN + table(results) + END + after
        options.table.write_text(text, encoding="utf-8")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
