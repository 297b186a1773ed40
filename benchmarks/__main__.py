"""Compares the speed and the memory of Lumina-JAX with those of others, on this machine.

python -m benchmarks [suite …] [--quick] [--json FILE] [--plot FILE]
python -m benchmarks train --profile
python -m benchmarks compare OLD.json NEW.json [--tolerance 1.15]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from . import _compare, _machine, _run, _table
from ._options import Options, parse_shape
from ._peers import PEERS
from ._suites import PROFILED, SUITES


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] == "compare":
        return _compare.main(arguments[1:])
    try:
        return _measure(arguments)
    except (ValueError, _run.WorkerError) as error:
        print(error, file=sys.stderr)
        return 2


def _measure(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    _known("suite", given.suites, tuple(SUITES))
    _known("peer", given.peers, PEERS)
    options = Options(
        suites=tuple(given.suites) or tuple(SUITES),
        quick=given.quick,
        peers=tuple(given.peers),
        shapes=tuple(map(parse_shape, given.shapes)),
        profile=given.profile,
    )
    if options.profile and not PROFILED.intersection(options.suites):
        raise ValueError(
            f"benchmarks: --profile needs a suite of {', '.join(sorted(PROFILED))}, "
            f"got {', '.join(options.suites)}"
        )
    report = _run.run(options, _threads(given.threads), _table.console(stderr=True))
    _table.show(report, _table.console())
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if given.plot:
        from . import _plot

        _plot.save(report, given.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    def names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "suites", nargs="*", metavar="suite", help=f"{', '.join(SUITES)}; all by default"
    )
    parser.add_argument("--quick", action="store_true", help="few shapes and peers; a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a roofline plot, a PNG")
    parser.add_argument(
        "--peers", type=names, default=[], metavar="NAMES", help=f"some of {','.join(PEERS)}"
    )
    parser.add_argument(
        "--shapes",
        type=names,
        default=[],
        metavar="SHAPES",
        help="such as 32x784x512,1x784x512; of train such as 128x784x512x512x10",
    )
    parser.add_argument(
        "--profile", action="store_true", help="show the parts of a training step (suite train)"
    )
    parser.add_argument(
        "--threads", type=names, default=["1", "all"], metavar="COUNTS", help="default: 1,all"
    )
    return parser


def _known(what: str, given: Sequence[str], names: Sequence[str]) -> None:
    for name in given:
        if name not in names:
            raise ValueError(f"benchmarks: {what} must be one of {', '.join(names)}, got {name!r}")


def _threads(texts: Sequence[str]) -> list[int]:
    available = len(_machine.cpus())
    counts = []
    for text in texts:
        if text != "all" and not (text.isdecimal() and 1 <= int(text) <= available):
            raise ValueError(
                f"benchmarks: threads must be from 1 to {available}, or all, got {text!r}"
            )
        counts.append(available if text == "all" else int(text))
    return sorted(set(counts))


if __name__ == "__main__":
    sys.exit(main())
