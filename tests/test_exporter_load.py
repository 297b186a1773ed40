"""`load`: what `save` wrote comes back, and whatever is wrong in a file is told."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import exporter
from exported import rebuilt, refused, same
from exporter import _container, _upgrade
from exporter import _lmn_pb2 as pb
from exporter._container import GRAPH, Section
from lumina_jax import OpticalSpec, optical_matmul
from lumina_jax.ops import OPS

RANGES = ("x_full_scale", "w_full_scale")
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def model() -> exporter.Model:
    def fn(params, x, key):
        y = jnp.pad(x @ params["w"], ((0, 0), (1, 2))) > 0
        return y, jax.random.key_data(jax.random.split(key)[1])

    params = {"w": np.arange(8, dtype=np.float32).reshape(4, 2)}
    options: dict[str, Any] = {"batch": "batch", "rtol": 1e-3, "atol": 1e-6}
    return exporter.export(fn, X, jax.random.key(5), params=params, **options)


def test_a_model_comes_back(model: exporter.Model, tmp_path: Path) -> None:
    loaded = exporter.load(model.save(tmp_path / "m.lmn"))
    same(model, loaded)
    assert repr(loaded) == repr(model)
    np.testing.assert_array_equal(loaded.weights["w"], model.weights["w"])
    for got, want in zip(loaded.tests, model.tests, strict=True):
        for a, b in zip(got.inputs + got.outputs, want.inputs + want.outputs, strict=True):
            np.testing.assert_array_equal(a, b)
            assert not a.flags.writeable


def test_empty_arrays_come_back(tmp_path: Path) -> None:
    model = exporter.export(lambda x: x + jnp.ones((0, 3)), np.ones((0, 3), np.float32))
    same(model, exporter.load(model.save(tmp_path / "m.lmn")))


def test_a_missing_file_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        exporter.load(tmp_path / "m.lmn")


def header(data: bytes, at: int, form: str, value: int) -> bytes:
    """`data` with one field of the header or the table changed, and its checksum right."""
    changed = bytearray(data)
    struct.pack_into(form, changed, at, value)
    end = struct.unpack_from("<I", changed, 8)[0]
    crc = google_crc32c.value(bytes(changed[:28]) + bytes(4) + bytes(changed[32:end]))
    struct.pack_into("<I", changed, 28, crc)
    return bytes(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: b"", "truncated file: the header needs 32 bytes, got 0"),
        (lambda d: b"PK\3\4" + d[4:], "not a .lmn file: it starts with [50, 4b, 03, 04], expected"),
        (lambda d: d[:40], "truncated file: the section table needs 128 bytes, got 40"),
        (lambda d: d[:-1], "truncated file: the file needs "),
        (lambda d: d + b"\0", "header: `file_len` must be "),
        (lambda d: d[:13] + b"\1" + d[14:], "the header is corrupt: its crc32c is "),
        (lambda d: d[:-1] + bytes([d[-1] ^ 1]), "section META is corrupt: its crc32c is "),
        (lambda d: header(d, 4, "<H", 9), "file format version 9 is not supported, this runtime"),
        (lambda d: header(d, 12, "<I", 4), "the header sets must-understand flags 0x4"),
        (lambda d: header(d, 40, "<Q", 64), "section GRAPH: `offset` 64 overlaps what comes"),
        (lambda d: header(d, 64, "<I", 1), "section GRAPH: appears twice"),
    ],
)  # fmt: skip
def test_broken_containers(
    change: Callable[[bytes], bytes], message: str, model: exporter.Model, tmp_path: Path
) -> None:
    assert message in refused(change(model.to_bytes()), tmp_path)


def node(graph: pb.Graph, op: str) -> pb.Node:
    return next(node for node in graph.nodes if node.op == op)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: setattr(g, "opset", 99), "`opset`: must be from 1 to 6, got 99"),
        (lambda g: g.symbols.append("batch"), "`symbols`: `batch` is empty or appears twice"),
        (lambda g: setattr(g.inputs[0], "dtype", 99), "input `x`: unknown dtype 99"),
        (lambda g: setattr(g.inputs[0], "role", 7), "input `x`: unknown role 7"),
        (lambda g: setattr(g.inputs[1], "name", "x"), "input `x`: the name appears twice"),
        (lambda g: setattr(g.inputs[0].shape[0].terms[0].factors[0], "symbol", 5),
         "input `x`: symbol 5 in a shape is not one of the 1"),
        (lambda g: setattr(g.tensors[0], "offset", 1), "`w`: `offset` must be a multiple of 64"),
        (lambda g: setattr(g.tensors[0], "offset", 2**63), "`w`: f32[4,2] at offset 922"),
        (lambda g: g.tensors[0].shape.extend([0, 2**63]), "is too large"),
        (lambda g: setattr(g.tensors[0], "id", 0), "defines value 0, which is defined already"),
        (lambda g: setattr(node(g, "gt"), "op", "ge2"), "unknown ops: `ge2`"),
        (lambda g: node(g, "gt").inputs.append(77), "reads value 77, but the graph has 10 values"),
        (lambda g: node(g, "dot_general").attrs.pop("lhs_batch"), "`lhs_batch` is missing"),
        (lambda g: node(g, "pad").attrs["low"].Clear(), "attribute `low` has no value"),
        (lambda g: node(g, "pad").inputs.pop(), "pad: expected 2 operands, got 1"),
        (lambda g: g.outputs.pop(), "test vector 0: expected 1 outputs, got 2"),
        (lambda g: setattr(g.tests[0], "absolute_tolerance", float("nan")), "must be finite"),
        (lambda g: g.tests[1].inputs.pop(), "test vector 1: expected 2 inputs, got 1"),
    ],
)  # fmt: skip
def test_broken_graphs(
    change: Callable[[pb.Graph], object], message: str, model: exporter.Model, tmp_path: Path
) -> None:
    assert message in refused(rebuilt(model.to_bytes(), change), tmp_path)


def test_what_is_no_protobuf(tmp_path: Path) -> None:
    contents = {GRAPH: Section()}
    assert refused(b"".join(_container.pack(contents)), tmp_path) == "section GRAPH: missing"
    contents[GRAPH].add(b"\xff" * 20)
    said = refused(b"".join(_container.pack(contents)), tmp_path)
    assert said == "section GRAPH cannot be decoded: a number has more than 64 bits"


def test_any_flipped_bit_is_told(model: exporter.Model, tmp_path: Path) -> None:
    data = model.to_bytes()
    for at in np.random.default_rng(0).choice(len(data), 200, replace=False):
        assert refused(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :], tmp_path)


CORPUS = Path(__file__).parents[1] / "runtime" / "tests" / "corpus"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.lmn")), ids=lambda path: path.stem)
def test_old_files_are_read_in_terms_of_today(path: Path) -> None:
    model = exporter.load(path)
    of_chain = [node for node in model.graph.nodes if node.op.startswith("optical_matmul")]
    assert of_chain
    for node in of_chain:
        assert set(node.attrs) == set(OPS[node.op].attrs.__dataclass_fields__)
        assert node.attrs.get("residual") != "linear"


NO_TILES = {"array_rows": 0}


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"with_linear": False}, {}),
        ({"with_linear": True}, {"residual": "pre_noise", "with_peak": False}),
        ({"residual": "none", "with_peak": False}, {}),
        ({"residual": "none", "with_peak": True}, {"residual": "none", "with_peak": True}),
        ({"residual": "linear", "with_peak": True}, {"residual": "pre_noise", "with_peak": True}),
        ({"residual": "signs", "with_peak": False}, {"residual": "signs", "with_peak": False}),
    ],
)
def test_every_form_of_the_first_op_set(attrs: dict[str, Any], expected: dict[str, Any]) -> None:
    op = "optical_matmul_fwd" if expected else "optical_matmul"
    peaks = {"with_x_peak": False, "with_w_peak": False} if expected else {}
    assert _upgrade.upgraded(1, "optical_matmul", attrs) == (op, expected | peaks | NO_TILES)
    assert _upgrade.upgraded(2, "optical_matmul", attrs) == ("optical_matmul", attrs | NO_TILES)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.lmn")), ids=lambda path: path.stem)
def test_old_files_are_saved_as_they_are_read(path: Path, tmp_path: Path) -> None:
    model = exporter.load(path)
    model.save(tmp_path / "again.lmn")
    assert exporter.load(tmp_path / "again.lmn").graph.nodes == model.graph.nodes


@pytest.mark.parametrize(
    ("ranges", "rows", "opset"),
    [({}, None, 3), (dict.fromkeys(RANGES, 2.0), 99, 2), (dict.fromkeys(RANGES, 2.0), 1, 4)],
)
def test_a_file_is_of_the_oldest_op_set_that_has_all(
    ranges: dict[str, Any], rows: int | None, opset: int, tmp_path: Path
) -> None:
    spec = OpticalSpec(dac_bits=8, weight_bits=8, array_rows=rows)
    model = exporter.export(lambda x: optical_matmul(x, x[:2].T, spec=spec, **ranges), X)
    model.save(tmp_path / "m.lmn")
    graph = _container.unpack((tmp_path / "m.lmn").read_bytes())[GRAPH]
    assert pb.Graph.FromString(bytes(graph)).opset == opset
    assert exporter.load(tmp_path / "m.lmn").graph.nodes == model.graph.nodes


def test_training_results_of_the_second_op_set() -> None:
    attrs = {"residual": "slope", "with_peak": True}
    peaks = {"with_x_peak": False, "with_w_peak": False}
    assert _upgrade.upgraded(2, "optical_matmul_fwd", attrs) == (
        "optical_matmul_fwd", attrs | peaks | NO_TILES
    )  # fmt: skip
    for opset, expected in ((3, attrs | NO_TILES), (4, attrs)):
        assert _upgrade.upgraded(opset, "optical_matmul_fwd", attrs) == (
            "optical_matmul_fwd", expected
        )  # fmt: skip
