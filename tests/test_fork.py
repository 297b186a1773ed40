"""A child of a process that computes in another thread, as loaders of data fork them.

The module is loaded without JAX, whose own threads no child has.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lumina_jax import _lumina

FORKS = 300
SCRIPT = """
import importlib.util, os, sys, threading, time, warnings
import numpy as np
warnings.simplefilter("ignore")  # newer Pythons warn that a fork may deadlock
spec = importlib.util.spec_from_file_location("_lumina", sys.argv[1])
lumina = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lumina)
seed, ids = np.zeros((1, 2), np.uint32), np.arange(300, dtype=np.uint32)
one, off = np.ones(1, np.float32), np.zeros((1, 4), np.float32)
noise = np.full((1, 4), 0.1, np.float32)
chain = dict(dac_bits=8, weight_bits=8, adc_bits=8, array_rows=0)
chain |= dict(transpose_weight=False, noisy=True)

def compute(rows, columns):
    x, w = np.ones((rows, 40), np.float32), np.ones((40, columns), np.float32)
    operands = [x, w, 0 * one, one, one, 40 * one, noise, seed, ids[:rows], ids[:columns]]
    return lumina.call("optical_matmul", chain, operands)[0]

expected = [compute(3, 4), compute(300, 300)]
stop = False

def work():
    while not stop:
        compute(3, 4)

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for fork in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        # Every tenth child needs threads of its own too.
        same = np.array_equal(compute(3, 4), expected[0])
        if fork % 10 == 0:
            same = same and np.array_equal(compute(300, 300), expected[1])
        os._exit(0 if same else 1)
    end = time.monotonic() + 60
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.kill(child, 9)
            stop = True
            sys.exit(f"child {fork} hangs")
        time.sleep(0.0002)
    if status:
        stop = True
        sys.exit(f"child {fork} ends with {status}")
stop = True
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_child_of_a_computing_process_computes() -> None:
    command = [sys.executable, "-c", SCRIPT, str(_lumina.__file__), str(FORKS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
