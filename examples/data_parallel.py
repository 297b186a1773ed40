"""Noise-aware training on the digits, with the batch spread over devices and processes.

    python examples/data_parallel.py                                  one process
    python examples/data_parallel.py --processes 2                    two, started here
    python examples/data_parallel.py --processes 2 --process 0 --coordinator HOST:PORT

Prints {"loss": [...], "devices": N}, the mean loss of each epoch. Each process feeds its part of
every batch; parameters are on all devices. Rows keep their numbers in the batch wherever they
are, so the noise of an image does not depend on the number of devices.
"""

from __future__ import annotations

import argparse
import functools
import json
import socket
import subprocess
import sys

import digits
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lumina_jax import HardwareProfile, NoiseModel
from lumina_jax.hardware import Converters
from lumina_jax.layers import OpticalDense

CHIP = HardwareProfile(name="digits", converters=Converters.all(4), noise=NoiseModel(relative=0.3))
BATCH = 64


def train(epochs: int) -> list[float]:
    """Loss of each epoch, the same on every process."""
    mesh = Mesh(np.asarray(jax.devices()), ("batch",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    rows = NamedSharding(mesh, PartitionSpec(None, "batch"))

    data, _ = digits.load()
    steps = len(data.digits) // BATCH
    model = digits.Mlp(functools.partial(OpticalDense, profile=CHIP, ranges="learn"))
    update = digits.optimizer(epochs * steps, clip=True)
    noise = CHIP.noise

    @functools.partial(jax.jit, out_shardings=everywhere)
    def epoch(
        state: digits.State, images: jax.Array, labels: jax.Array, key: jax.Array
    ) -> tuple[digits.State, jax.Array]:
        def body(
            state: digits.State, batch: tuple[jax.Array, jax.Array, jax.Array]
        ) -> tuple[digits.State, jax.Array]:
            return digits.step(model, update, state, *batch, noise=noise)

        state, losses = jax.lax.scan(body, state, (images, labels, jax.random.split(key, steps)))
        return state, losses.mean()

    start = functools.partial(digits.start, model, update)
    state = jax.jit(start, out_shardings=everywhere)(jax.random.key(0))
    shuffle = np.random.default_rng(0)
    losses = []
    for i in range(epochs):
        order = shuffle.permutation(len(data.digits))[: steps * BATCH].reshape(steps, BATCH)
        images, labels = (_shard(array[order], rows) for array in data)
        state, loss = epoch(state, images, labels, jax.random.fold_in(jax.random.key(1), i))
        losses.append(float(loss))
    return losses


def _shard(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """A global array of which each process touches no more than its own devices hold."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def spawn(processes: int, epochs: int) -> int:
    """Runs all processes on this machine; the exit status of the first that failed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, __file__, "--epochs", str(epochs), "--processes", str(processes)]
    command += ["--coordinator", coordinator]
    workers = [
        subprocess.Popen(
            [*command, "--process", str(i)], stdout=None if i == 0 else subprocess.DEVNULL
        )
        for i in range(processes)
    ]
    try:
        return next((status for worker in workers if (status := worker.wait())), 0)
    finally:
        for worker in workers:
            worker.kill()


def main() -> int:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, help="which one this is; all if not given")
    parser.add_argument("--coordinator", help="host:port of process 0")
    args = parser.parse_args()
    if args.processes > 1 and args.process is None:
        return spawn(args.processes, args.epochs)
    if args.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            args.coordinator, args.processes, args.process, initialization_timeout=60
        )
    losses = train(args.epochs)
    if jax.process_index() == 0:
        print(json.dumps({"loss": losses, "devices": jax.device_count()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
