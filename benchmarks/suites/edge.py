"""One row at a time, on weights of few bits that lie in a file as codes.

product           x·w of a row, digital, beside the same of float32 weights
optical product   the same between a DAC and an ADC of 8 bits
GPT-2, decode     one token, with the keys and values of those before, as suite `models` has it
first token       the process `lumina run` from its start to that token, the file mapped
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import lumina_jax
from lumina_jax import OpticalSpec, WeightQuantizer, export

from .. import _equality, _problem
from .._bench import Bench, Case, Row, load
from .._options import Options, Shape
from .._peers import OURS, Program
from .._problem import Problem, Workload
from . import _models_networks as networks
from . import models
from .start import program as lumina

BITS = (8, 4, 2)
PRODUCTS = ((4096, 4096), (16384, 16384))
"""Depth and columns; the weights of the second lie beyond the caches at any bits."""
QUICK = ((512, 512),)
OPTICAL = ((784, 512), *PRODUCTS)
DECODE = models.CHOICE["GPT-2, decode"]
PEERS = ("jax", "torch")
QUANTIZER = WeightQuantizer(method="absmax", axis=1)
"""Levels of each output."""
LARGEST = 1 << 26
"""Weights up to which peers have their float32."""


def cases(options: Options) -> list[Case]:
    """Each workload at each number of bits."""
    products = options.shapes_of(2, QUICK, PRODUCTS)
    optical = options.shapes_of(2, OPTICAL[:1], OPTICAL)
    decode = options.shapes_of(5, *reversed(DECODE))
    return [
        *_cases("product", _product, products, BITS),
        *_cases("optical product", _optical, optical, BITS),
        *_cases("GPT-2, decode", _decode, decode, (8, 4)),
        *_cases("first token", _first_token, decode, (8, 4)),
    ]


def _cases(
    name: str,
    run: Callable[[Bench, str, int, Shape], Row],
    shapes: Sequence[Shape],
    all_bits: tuple[int, ...],
) -> list[Case]:
    def case(bits: int, shape: Shape) -> Case:
        workload = f"{name}, {bits} bit"
        return Case(workload, shape, lambda bench: run(bench, workload, bits, shape))

    return [case(bits, shape) for shape in shapes for bits in all_bits]


def _peers(bench: Bench, shape: Shape) -> list[str]:
    """Those of a product of these weights."""
    all_peers = bench.peers(PEERS, PEERS) if math.prod(shape) <= LARGEST else []
    return [peer for peer in all_peers if peer in PEERS]


def _session(model: export.Model, *inputs: Any) -> Callable[[], Any]:
    """A call of a session, without test vectors, which nobody recomputes here."""
    session = dataclasses.replace(model, tests=()).session()
    return lambda: session(*inputs)


def _product(bench: Bench, workload: str, bits: int, shape: Shape) -> Row:
    depth, columns = shape
    rng = np.random.default_rng(shape)
    x = rng.standard_normal((1, depth), np.float32)
    w = rng.standard_normal(shape, np.float32)
    weights = {"params": (QUANTIZER, bits)}
    model = export.export(lambda w, x: x @ w, x, params=w, weights=weights)

    def levels() -> jax.Array:
        return jnp.asarray(model.weights["params"])

    def program(name: str) -> Program:
        if name == OURS:
            call = _session(model, x)
        elif name == "jax":
            compiled, on_device = jax.jit(jnp.matmul), [jnp.asarray(x), levels()]

            def call() -> Any:
                return jax.block_until_ready(compiled(*on_device))
        else:
            torch = load(name).torch
            of_torch = [torch.from_numpy(np.array(array)) for array in (x, levels())]

            def call() -> Any:
                return torch.mm(*of_torch)

        return Program(lambda _: call, lambda result: (np.asarray(result),))

    calls, notes, _ = bench.compare(_peers(bench, shape), program, models.check)
    return bench.row(
        "edge",
        workload,
        shape,
        operations={"float32": 2.0 * depth * columns},
        size=depth * columns * bits / 8 + 4.0 * (depth + columns),
        results=bench.time(calls),
        notes=notes,
    )


def _optical(bench: Bench, workload: str, bits: int, shape: Shape) -> Row:
    depth, columns = shape
    problem = _problem.make(Workload(workload, 8, bits, 8), (1, depth, columns))

    def program(name: str) -> Program:
        return _deployed(problem) if name == OURS else load(name).forward(problem)

    def check(name: str, peer: Program, ours: Program) -> None:
        _equality.check(problem, name, peer, ours, getattr(load(name), "OWN_GRID", False))

    calls, notes, _ = bench.compare(_peers(bench, shape), program, check)
    return bench.row(
        "edge",
        workload,
        shape,
        operations={"int8": 2.0 * depth * columns},
        size=depth * columns * bits / 8 + 4.0 * (depth + columns),
        normals=columns,
        results=bench.time(calls),
        notes=notes,
    )


def _deployed(problem: Problem) -> Program:
    """The product as a file, whose noise level is an input of it."""
    workload = problem.workload
    spec = OpticalSpec(
        dac_bits=workload.dac_bits, weight_bits=workload.weight_bits, adc_bits=workload.adc_bits
    )

    def chain(w: jax.Array, x: jax.Array, level: jax.Array, key: jax.Array) -> jax.Array:
        return lumina_jax.optical_matmul(
            x,
            w,
            spec=spec,
            x_full_scale=problem.x_full_scale,
            w_full_scale=jnp.asarray(problem.w_full_scale),
            y_full_scale=problem.y_full_scale,
            noise=lumina_jax.NoiseModel(relative=level),
            key=key,
        )

    level, key = np.float32(_problem.RELATIVE), np.zeros(2, np.uint32)
    model = export.export(chain, problem.x, level, key, params=jnp.asarray(problem.w))
    session = dataclasses.replace(model, tests=()).session()

    def bind(level: float) -> Callable[[], Any]:
        as_array = np.float32(level)
        return lambda: session(problem.x, as_array, key)

    return Program(bind, lambda result: (np.asarray(result),))


class _Decode(NamedTuple):
    network: networks.Network
    model: export.Model


@functools.cache
def _gpt(bits: int, shape: Shape) -> _Decode:
    """The network of quantized weights, and its file, for as long as this process runs.

    What it keeps begins with zeros, as that of a model that is used does.
    """
    network = networks.decode(shape)
    network = network._replace(state=jax.tree.map(np.zeros_like, network.state))
    kept = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), network.state)
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in network.inputs]
    model = export.export(
        network.function,
        *shapes,
        params=network.params,
        state=kept,
        # The rows of the table are the inputs of the product with all of it, too.
        weights={"*": (QUANTIZER, bits), "wte": (dataclasses.replace(QUANTIZER, axis=0), bits)},
    )

    levels = model.weights

    def stored(path: Any, w: np.ndarray) -> np.ndarray:
        first, *rest = path
        return levels[f"{first.key}{jax.tree_util.keystr(tuple(rest))}"] if w.ndim > 1 else w

    params = jax.tree_util.tree_map_with_path(stored, network.params)
    return _Decode(network._replace(params=params), dataclasses.replace(model, tests=()))


def _decode(bench: Bench, workload: str, bits: int, shape: Shape) -> Row:
    decode = _gpt(bits, shape)

    def program(name: str) -> Program:
        if name != OURS:
            return models.program(decode.network, name, bench.threads)
        call = _session(decode.model, *decode.network.inputs)
        return Program(lambda _: call, lambda result: (np.asarray(result),))

    peers = [peer for peer in bench.peers(PEERS, PEERS) if peer == "jax"]
    calls, notes, _ = bench.compare(peers, program, models.check)
    return bench.row(
        "edge",
        workload,
        shape,
        operations={"float32": 2 * decode.network.products},
        size=_bytes(decode, bits),
        results=bench.time(calls),
        notes=notes,
    )


def _bytes(decode: _Decode, bits: int) -> float:
    """Weights as codes, and what is kept."""
    weights = sum(leaf.size for leaf in jax.tree.leaves(decode.network.params))
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(decode.network.state))
    return weights * bits / 8 + kept


def _first_token(bench: Bench, workload: str, bits: int, shape: Shape) -> Row:
    decode = _gpt(bits, shape)
    with tempfile.TemporaryDirectory(prefix="lumina-edge-") as folder:
        path = decode.model.save(Path(folder) / "gpt.lmn")
        command = [lumina(), "run", path, "--output", os.devnull, "--mmap", "--skip-checksum"]
        command += ["--threads", str(bench.threads)]
        for port, array in zip(decode.model.graph.inputs, decode.network.inputs, strict=True):
            np.save(Path(folder) / f"{port.name}.npy", array)
            command += ["--input", f"{port.name}={folder}/{port.name}.npy"]

        def build(_: str) -> Callable[[], object]:
            return lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

        calls, notes = bench.attempt([OURS], build)
        return bench.row(
            "edge",
            workload,
            shape,
            size=_bytes(decode, bits),
            results=bench.time(calls) if calls else {},
            notes=notes,
        )
