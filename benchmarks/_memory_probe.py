"""How far one training step of one peer raises the memory of its process; run by `suites.memory`.

The operands are in place and the step has run before, so what counts is what a step allocates: its
results and temporaries. Linux keeps the peak of the resident set in /proc/self/status (VmHWM) and
sets it to the present value when 5 is written to /proc/self/clear_refs.
"""

from __future__ import annotations

import ctypes
import gc
import json
import re
import sys
from pathlib import Path
from typing import Any

from . import _peers, _problem

_REPEATS = 5
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def main() -> None:
    """Read the job from standard input, write {"bytes": […]} or {"note": …} to standard output."""
    job = json.load(sys.stdin)
    output, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(_answer(job)), file=output)


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    problem = _problem.make(_problem.Workload(*job["workload"]), tuple(job["shape"]))
    try:
        step = _peers.load(job["peer"]).step(problem).bind(_problem.RELATIVE)
        for _ in range(2):
            step()
        return {"bytes": [_growth(step) for _ in range(_REPEATS)]}
    except Exception as error:
        # Whatever breaks in another library is a note of its row.
        return {"note": f"{type(error).__name__}: {error}".splitlines()[0]}


def _growth(step: Any) -> int:
    gc.collect()
    _release()
    _CLEAR.write_text("5")
    before = _status("VmRSS")
    result = step()
    peak = _status("VmHWM")
    del result
    # The system adds the pages of its CPUs up now and then, so the difference may be below 0.
    return max(0, peak - before)


def _release() -> None:
    """Give what glibc keeps of freed memory back to the system."""
    ctypes.CDLL(None).malloc_trim(0)


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


if __name__ == "__main__":
    main()
