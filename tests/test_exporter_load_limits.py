"""`load` and the runtime's loader: one refuses what the other does, with the same words.

What `load` refuses beyond that is what only the runtime reads, and what it cannot infer for every
size. Whatever a file holds, the answer is a model or a LoadError.
"""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import packed, rebuilt, reencoded, refused
from exporter import _lmn_pb2 as pb
from lumina_jax._native import _lumina

F32, BOOL = 1, 6


def polynomial(dim: pb.Dim, *terms: tuple[int, Iterable[tuple[int, int]]]) -> None:
    for coefficient, factors in terms:
        term = dim.terms.add(coefficient=coefficient)
        for symbol, power in factors:
            term.factors.add(symbol=symbol, power=power)


def fixed(extent: int) -> tuple[int, tuple[()]]:
    return extent, ()


def graph(symbols: int = 0) -> pb.Graph:
    """x f32[4] as value 0; then for each symbol an input f32[s]."""
    g = pb.Graph(opset=2, symbols=[f"s{i}" for i in range(symbols)])
    polynomial(g.inputs.add(id=0, name="x", dtype=F32).shape.add(), fixed(4))
    for i in range(symbols):
        dim = g.inputs.add(id=1 + i, name=f"s{i}", dtype=F32).shape.add()
        polynomial(dim, (1, [(i, 1)]))
    return g


def with_tensors(*offsets: int, size: int = 128) -> bytes:
    g = graph()
    for i, offset in enumerate(offsets):
        g.tensors.add(id=1 + i, name=f"w{i}", dtype=F32, shape=[16], offset=offset)
    return packed(g, bytes(size))


def with_attributes(count: int) -> bytes:
    g = graph()
    node = g.nodes.add(op="neg", inputs=[0], outputs=[1])
    for i in range(count):
        node.attrs[f"a{i:03}"].integer = i
    return packed(g)


def with_factors(count: int) -> bytes:
    g = graph(1)
    polynomial(g.inputs.add(id=2, name="y", dtype=F32).shape.add(), (1, [(0, 1)] * count))
    return packed(g)


def with_name(length: int) -> bytes:
    g = graph()
    g.inputs[0].name = "n" * length
    return packed(g)


def with_source(length: int) -> bytes:
    g = graph()
    g.nodes.add(op="neg", inputs=[0], outputs=[1], source="s" * length)
    return packed(g)


def with_symbol(length: int) -> bytes:
    g = graph(1)
    g.symbols[0] = "s" * length
    return packed(g)


def with_truth(byte: int) -> bytes:
    g = graph()
    g.tensors.add(id=1, name="w", dtype=BOOL, shape=[1])
    return packed(g, bytes([byte]))


def of_empty_nodes(count: int) -> bytes:
    g = graph()
    g.nodes.extend([pb.Node()] * count)
    return packed(g)


LIMITS = {
    "overlapping tensors": (with_tensors(0, 0), "tensor 2 `w1`: its bytes are also those of"),
    "beyond the section": (with_tensors(64, size=100), "beyond section WEIGHTS of 100 bytes"),
    "65 symbols": (packed(graph(65)), "`symbols`: at most 64, got 65"),
    "17 factors": (with_factors(17), "an extent has at most 16 factors in a term, got 17"),
    "257 attributes": (with_attributes(257), "node 0 (`neg`): at most 256 attributes, got 257"),
    "5000 bytes of a name": (with_name(5000), "a text has 5000 bytes, the limit is 4096"),
    "5000 bytes of a source": (with_source(5000), "a text has 5000 bytes, the limit is 4096"),
    "65 bytes of a symbol": (with_symbol(65), "a name has 65 bytes, the limit is 64"),
    "a truth value of 2": (with_truth(2), "tensor 1 `w`: a truth value must be 0 or 1"),
    "the budget of a graph": (of_empty_nodes(500_000), "it would take more than 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_has_the_words_of_the_runtime(name: str, lumina: Path, tmp_path: Path) -> None:
    data, words = LIMITS[name]
    start = time.process_time()
    said = refused(data, tmp_path)
    assert time.process_time() - start < 2
    assert words in said
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        _lumina.check_model(data)
    run = subprocess.run([lumina, "inspect", tmp_path / "m.lmn"], capture_output=True, text=True)
    assert run.returncode == 2
    assert said in run.stderr


@pytest.mark.parametrize(
    "data",
    [
        with_tensors(0, 64),
        packed(graph(64)),
        with_factors(16),
        with_name(4096),
        with_source(4096),
        with_symbol(64),
        with_truth(1),
    ],
)
def test_what_is_within_the_limits_loads(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.lmn"
    path.write_bytes(data)
    assert exporter.load(path).inputs
    assert _lumina.check_model(data) is None


def test_more_parts_than_a_tensor_has_axes(tmp_path: Path) -> None:
    x = np.ones((2, 12), np.float32)
    model = exporter.export(lambda x: jnp.split(x, 12, 1), x, batch="batch")
    assert len(exporter.load(model.save(tmp_path / "m.lmn")).outputs) == 12


def test_only_bytes_are_checked() -> None:
    with pytest.raises(TypeError, match="'bytearray' object"):
        _lumina.check_model(bytearray())  # pyright: ignore[reportArgumentType]


# --- what the runtime accepts -------------------------------------------------------------------


def wdm(g: pb.Graph) -> None:
    g.wdm.wavelengths_nm.append(1550)
    g.wdm.slot_of_stream.append(0)


def quantized(g: pb.Graph) -> None:
    g.tensors.add(id=3, name="w", dtype=F32, shape=[0]).quantization.bits = 8
    g.tensors[0].quantization.scales.append(1)


def pad(g: pb.Graph, count: int, *interior: tuple[int, Iterable[tuple[int, int]]]) -> None:
    """Pads an input again and again, so that its extent is multiplied each time."""
    last = len(g.inputs)
    g.inputs.add(id=last, name="value", dtype=F32)
    read = 1
    for i in range(count):
        node = g.nodes.add(op="pad", inputs=[read, last], outputs=[last + 1 + i])
        read = last + 1 + i
        for name in ("low", "high", "interior"):
            dim = node.attrs[name].shape.dims.add()
            polynomial(dim, *(interior if name == "interior" else [fixed(0)]))


def region(g: pb.Graph) -> None:
    """In an attribute that no op reads, of a node whose shapes are known in a run alone."""
    pad(g, 1, (1, [(0, 1)]))
    g.nodes[0].attrs["more"].region.SetInParent()


def broadcast(g: pb.Graph, rank: int) -> None:
    node = g.nodes.add(op="broadcast_in_dim", inputs=[0], outputs=[3])
    node.attrs["broadcast_dimensions"].integers.SetInParent()
    for _ in range(rank):
        polynomial(node.attrs["shape"].shape.dims.add(), (1, [(0, 1)]))


def cancelling(g: pb.Graph) -> None:
    g.symbols.append("lost")
    polynomial(g.inputs[0].shape[0], (1, [(2, 1)]), (-1, [(2, 1)]))


def output(g: pb.Graph, dtype: int) -> None:
    polynomial(g.outputs.add(id=1, name="y", dtype=dtype).shape.add(), (2, [(0, 1)]))


def results(g: pb.Graph) -> None:
    pad(g, 1, (1, [(0, 1)]))
    g.nodes[0].outputs.append(5)


OWN: dict[str, tuple[Callable[[pb.Graph], object], str]] = {
    "wdm": (wdm, "the graph has a `wdm`, which only the runtime reads"),
    "quantized": (quantized, "tensor 3 `w` is quantized, which only the runtime reads"),
    "region": (region, "node 0 (`pad`, ): `more` is a region, which the op does not run"),
    "rank": (lambda g: broadcast(g, 9), "node 0 (`broadcast_in_dim`, ) has rank 9, expected at"),
    "terms": (
        lambda g: pad(g, 40, (1, [(0, 1)]), (1, [(1, 1)])),
        "(`pad`, ) has an extent of 71 terms up to degree 11",
    ),
    "degree": (lambda g: pad(g, 40, (1, [(0, 8)])), "33 terms up to degree 129"),
    "bits": (lambda g: pad(g, 40, (2**62, [(0, 1)])), "coefficients of 125 bits"),
    "symbol": (cancelling, "no input shape determines `lost`, whose terms cancel"),
    "output": (
        lambda g: output(g, F32),
        "output `y`: the file says f32[2*s0], but its nodes compute f32[s0]",
    ),
    "type": (lambda g: output(g, BOOL), "the file says bool[2*s0], but its nodes compute f32[s0]"),
    "results": (results, "node 0 (`pad`, ) has 2 outputs, expected 1"),
}


@pytest.mark.parametrize("name", OWN)
def test_what_only_the_runtime_reads(name: str, tmp_path: Path) -> None:
    change, words = OWN[name]
    g = graph(2)
    change(g)
    data = packed(g)
    _lumina.check_model(data)
    start = time.process_time()
    assert words in refused(data, tmp_path)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("op", ["concatenate", "select_n"])
def test_an_operand_that_comes_many_times(op: str, tmp_path: Path) -> None:
    g = graph(1)
    x = g.inputs.add(id=2, name="long", dtype=F32).shape
    for _ in range(8):
        polynomial(x.add(), *((1, [(0, 1 + i % 8)] * (1 + i // 8)) for i in range(64)))
    node = g.nodes.add(op=op, inputs=[2] * 60_000, outputs=[3])
    if op == "concatenate":
        node.attrs["dimension"].integer = 0
    path = tmp_path / "m.lmn"
    path.write_bytes(packed(g))
    start = time.process_time()
    assert exporter.load(path).ops == {op: 1}
    assert time.process_time() - start < 2


# --- any file -----------------------------------------------------------------------------------

CORPUS = Path(__file__).parents[1] / "runtime" / "tests" / "corpus"


def rich() -> bytes:
    def fn(params, x, key):
        first, second = jnp.split(x, 2, 1)
        return (
            jnp.pad(x @ params, ((0, 0), (1, 2))) > 0,
            jax.random.key_data(jax.random.split(key)[1]),
            jnp.concatenate([first + second, x[:, ::-1]], 1).reshape(-1),
            jnp.argmax(x, 1).astype(jnp.float32) * x.shape[0],
            jnp.broadcast_to(x[None], (3, *x.shape))[:, 1:].T.sum(0) ** 3,
        )

    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    weights = np.ones((4, 2), np.float32)
    return exporter.export(fn, x, jax.random.key(5), params=weights, batch="batch").to_bytes()


NUMBERS = (0, 1, 2, 3, 4, 8, -1, -2, 64, 2**31 - 1, -(2**31), 2**47, 2**62, 2**63 - 1, -(2**63))
TEXTS = ("", "f32", "i32", "none", "linear", "12", "none of them")


def redo(rng: random.Random, g: pb.Graph, dim: pb.Dim) -> None:
    dim.Clear()
    for _ in range(rng.randrange(3)):
        factors = [(rng.randrange(len(g.symbols) or 1), rng.choice((1, 2, 8)))] * rng.randrange(3)
        polynomial(dim, (rng.choice(NUMBERS), factors))


def attribute(rng: random.Random, g: pb.Graph) -> pb.Attr:
    numbers = [rng.choice(NUMBERS) for _ in range(rng.randrange(5))]
    attr = rng.choice(
        (
            pb.Attr(flag=True),
            pb.Attr(integer=rng.choice(NUMBERS)),
            pb.Attr(number=rng.choice((0.0, 1.5, float("nan"), -1e300))),
            pb.Attr(text=rng.choice(TEXTS)),
            pb.Attr(integers=pb.Integers(values=numbers)),
            pb.Attr(shape=pb.Shape(dims=[pb.Dim()] * rng.randrange(4))),
        )
    )
    for dim in attr.shape.dims:
        redo(rng, g, dim)
    return attr


def mutate(rng: random.Random, g: pb.Graph) -> None:
    # Without a test vector the runtime does not infer shapes that depend on the inputs.
    if rng.random() < 0.7:
        g.ClearField("tests")
    for _ in range(rng.choice((1, 1, 2, 4))):
        node = rng.choice(g.nodes)
        match rng.randrange(6):
            case 0 | 1 if node.attrs:
                node.attrs[rng.choice(sorted(node.attrs))].CopyFrom(attribute(rng, g))
            case 2 if node.inputs:
                node.inputs[rng.randrange(len(node.inputs))] = rng.randrange(12)
            case 3:
                node.op = rng.choice(_lumina.file_op_names())
            case 4:
                port = rng.choice((*g.inputs, *g.outputs))
                redo(rng, g, rng.choice(port.shape or [port.shape.add()]))
            case _:
                node.attrs[rng.choice(("shape", "more"))].CopyFrom(attribute(rng, g))


def edit(rng: random.Random, message: bytes) -> bytes:
    """The message with some bytes changed, taken out, or put in a second time."""
    at, end = sorted(rng.choices(range(len(message)), k=2))
    match rng.randrange(3):
        case 0:
            middle = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))])
            end = at + 1
        case 1:
            middle, end = b"", min(end, at + 8)
        case _:
            middle = 2 * message[at:end]
    return message[:at] + middle + message[end:]


OWN_WORDS = (
    "section GRAPH cannot be decoded: ",
    "operands or attributes do not fit the op: ",
    "but its nodes compute",
    "whose terms cancel",
    "has an extent of ",
    "has rank ",
    "is a region, which the op does not run",
    "outputs, expected ",
)


def test_any_mutant_is_a_model_or_an_error(tmp_path: Path) -> None:
    files = [rich(), *(path.read_bytes() for path in sorted(CORPUS.glob("*.lmn")))]
    path = tmp_path / "m.lmn"
    outcomes = set()
    for seed in range(600):
        rng = random.Random(seed)
        file = rng.choice(files)
        if seed % 3:
            data = rebuilt(file, lambda g, rng=rng: mutate(rng, g))
        else:
            data = reencoded(file, lambda message, rng=rng: edit(rng, message))
        path.write_bytes(data)
        outcomes.add(outcome(path, data))
    assert outcomes == {"loaded", "refused by both", "refused by `load`"}


def outcome(path: Path, data: bytes) -> str:
    said = None
    try:
        _lumina.check_model(data)
    except ValueError as fault:
        said = str(fault)
    try:
        model = exporter.load(path)
    except exporter.LoadError as fault:
        text = str(fault).removeprefix(f"cannot load `{path}`: ")
        if said is not None:
            return "refused by both" if text == said else f"{text}, not {said}"
        return "refused by `load`" if any(words in text for words in OWN_WORDS) else text
    return "loaded" if said is None and repr(model) and model.to_bytes() else f"loaded: {said}"
