"""Runs all cases at one number of threads; started by `_run` for each of them.

The thread pools of XLA, OpenMP and BLAS get their size when they start, so a process has one
number of threads. Messages are JSON lines on standard output; whatever a library prints goes to
standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from typing import Any


def main() -> None:
    """Read {"threads", "options"} from standard input, write messages to standard output."""
    job = json.load(sys.stdin)
    threads = job["threads"]
    # Before anything starts a pool.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for message in _messages(threads, job["options"]):
        print(json.dumps(message), file=messages, flush=True)


def _messages(threads: int, options_text: str) -> Iterator[dict[str, Any]]:
    from ._bench import Bench
    from ._options import Options, shape_text
    from ._suites import SUITES

    _set_torch_threads(threads)
    options = Options.from_json(options_text)
    cases = [(name, case) for name in options.suites for case in SUITES[name](options)]
    yield {"cases": len(cases)}
    bench = Bench(options, threads)
    for name, case in cases:
        yield {"starts": f"{name}, {case.workload}, {shape_text(case.shape)}"}
        yield {"row": case.run(bench)}
        _forget()
    yield {"limits": bench.limits.to_json()}


def _forget() -> None:
    """Let go of the programs of a case, and of the operands that they hold."""
    import jax

    jax.clear_caches()
    gc.collect()


def _set_torch_threads(threads: int) -> None:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except Exception:
        # Absent or broken: its peers say so in the rows.
        return
    torch.set_num_threads(threads)


KEEP_FREED = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""glibc keeps freed memory of up to 32 MiB a piece, the most that it can: to map pages for the
results of a call, in some calls and not in others, takes as long as a short step."""


def environment(
    inherited: dict[str, str], threads: int, *, keeps_freed: bool = True
) -> dict[str, str]:
    """The environment of a worker: every pool gets that many threads, and JAX one device."""
    names = (
        "PJRT_NPROC",
        "NPROC",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    )
    flags = [
        flag
        for flag in inherited.get("XLA_FLAGS", "").split()
        if not flag.startswith("--xla_force_host_platform_device_count")
    ]
    return {
        **inherited,
        **(KEEP_FREED if keeps_freed else {}),
        **dict.fromkeys(names, str(threads)),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": " ".join(flags),
    }


if __name__ == "__main__":
    main()
