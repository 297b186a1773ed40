"""`lumina_runtime` in a process: its threads, signals, forks, and the end of all of them."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from runtime_models import SQUARE, X, dense, exported, looped, rt


@pytest.fixture(scope="module")
def plain() -> tuple[exporter.Model, Any]:
    return exported(dense, X, batch="batch")


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long run that counts itself."""

    def update(state: Any, x: Any) -> Any:
        return looped(x), {"count": state["count"] + 1}

    model = exporter.export(update, SQUARE, state={"count": jnp.int32(0)})
    return model.save(tmp_path_factory.mktemp("counted") / "m.lmn")


def ran(code: str, *args: object) -> str:
    """What a program of its own prints."""
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout


def test_threads_share_a_model_and_a_session(plain: Any) -> None:
    model = plain[1]
    shared = rt.Session(model)
    inputs = [np.full((rows, 6), rows, np.float32) for rows in (1, 2, 3, 4)]
    want = [plain[0](x) for x in inputs]
    wrong = []

    def work(number: int) -> None:
        own = rt.Session(model, threads=1)
        for call in range(100):
            index = (number + call) % len(inputs)
            for run in (own, shared, model):
                if not np.array_equal(run(inputs[index]), want[index]):
                    wrong.append((number, call))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_other_threads_go_on_during_a_run() -> None:
    session = rt.Session(rt.Model(exporter.export(looped, SQUARE).to_bytes()), threads=1)
    thread = threading.Thread(target=session, args=(SQUARE,))
    thread.start()
    ticks = 0
    while thread.is_alive():
        time.sleep(0.002)
        ticks += 1
    # With the GIL held there would be one at most.
    assert ticks > 5


INTERRUPTED = """
import os, signal, sys, threading
import numpy as np
import lumina_runtime as rt

session = rt.Session(rt.Model(sys.argv[1]))
x = np.eye(32, dtype=np.float32)
for _ in range(2):
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        while True:
            session(x)
    except KeyboardInterrupt:
        print("interrupted")
    timer.join()
    try:
        print(session.states["count"])
    except ValueError as error:
        print(error)
    session.reset()
    print(session.states["count"])
handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
os.kill(os.getpid(), signal.SIGINT)
session(x)
print(session.states["count"])
"""


def test_ctrl_c_ends_a_run(counted: Path) -> None:
    begin = time.perf_counter()
    said = ran(INTERRUPTED, counted).splitlines()
    assert said[0] == said[3] == "interrupted"
    assert said[2] == said[5] == "0"
    assert said[-1] == "1"
    for lost in (said[1], said[4]):
        assert "states were lost in a run that failed" in lost or lost.isdigit()
    assert time.perf_counter() - begin < 30


def test_a_signal_whose_handler_returns_costs_no_result(tmp_path: Path) -> None:
    code = """
import os, signal, sys, threading
import numpy as np
import lumina_runtime as rt

session = rt.Session(rt.Model(sys.argv[1]))
x = np.eye(32, dtype=np.float32) / 2
want = session(x)
came = []
signal.signal(signal.SIGINT, lambda *_: came.append(True))
timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
timer.start()
while not came:
    assert np.array_equal(session(x), want)
timer.join()
"""
    assert ran(code, exporter.export(looped, SQUARE).save(tmp_path / "m.lmn")) == ""


def test_another_thread_may_import_the_package(counted: Path) -> None:
    code = """
import os, signal, sys, threading
import numpy as np

def load():
    global rt
    import lumina_runtime as rt

thread = threading.Thread(target=load)
thread.start()
thread.join()
session = rt.Session(rt.Model(sys.argv[1]))
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        session(np.eye(32, dtype=np.float32))
except KeyboardInterrupt:
    print("interrupted")
"""
    assert ran(code, counted) == "interrupted\n"


def test_python_ends_while_threads_compute(plain: Any, tmp_path: Path) -> None:
    code = """
import sys, threading, time
import numpy as np
import lumina_runtime as rt

model = rt.Model(sys.argv[1])
x = np.ones((1000, 6), np.float32)

def work():
    session = rt.Session(model, threads=1)
    while True:
        session(x)

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
"""
    path = plain[0].save(tmp_path / "m.lmn")
    for _ in range(3):
        assert ran(code, path) == ""


def test_an_import_brings_neither_jax_nor_numpy() -> None:
    code = "import sys, lumina_runtime; print({'numpy', 'jax', 'lumina_jax'} & set(sys.modules))"
    assert ran(code) == "set()\n"
    code = """
import sys, lumina_runtime, lumina_runtime.testing, numpy as np
lumina_runtime.Model(sys.stdin.buffer.read())(np.ones((2, 6)))
print({"jax", "lumina_jax", "torch", "ml_dtypes"} & set(sys.modules))
"""
    data = exporter.export(dense, X, batch="batch").to_bytes()
    run = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert run.stdout == b"set()\n"


def test_objects_end_with_their_last_name(plain: Any) -> None:
    model = rt.Model(plain[0].to_bytes())
    session = rt.Session(model)
    assert session.model is model
    model(X)
    del model
    gc.collect()
    np.testing.assert_array_equal(session(X), plain[0](X))
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(session)


def test_a_model_may_keep_its_session() -> None:
    class Net(rt.Model):
        def __init__(self, source: Any) -> None:
            super().__init__(source)
            self.session = rt.Session(self)

    net = Net(exporter.export(dense, X).to_bytes())
    kept = weakref.ref(net)
    del net
    gc.collect()
    assert kept() is None


def test_a_fork_has_sessions_of_its_own(plain: Any, tmp_path: Path) -> None:
    code = """
import os, sys, warnings
import numpy as np
import lumina_runtime as rt

model = rt.Model(sys.argv[1])
session = rt.Session(model)
x = np.ones((2, 6), np.float32)
want = model(x)
assert np.array_equal(session(x), want)
warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads
child = os.fork()
if child == 0:
    same = np.array_equal(model(x), want) and np.array_equal(rt.Session(model)(x), want)
    try:
        session(x)
    except RuntimeError as error:
        os._exit(0 if same and "made before a fork" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    assert ran(code, plain[0].save(tmp_path / "m.lmn")) == ""
