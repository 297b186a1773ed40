"""The bytes of a `.lmn` file, read back with nothing but `struct` and the schema."""

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import google_crc32c
import jax
import numpy as np
import pytest

import exporter
from exporter import SaveError, _container, _encode
from exporter import _lmn_pb2 as pb

# Numbers of element types in files.
F32, U32, I32, BOOL = 1, 3, 4, 6

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
W = np.arange(20, dtype=np.float32).reshape(4, 5)


def fn(params, x, key):
    words = jax.random.key_data(jax.random.fold_in(key, 7))
    y = x @ params["w"] * x.shape[0]
    return {"y": y, "twice": y.reshape(-1), "words": words, "yes": y > 0}


def build(**options) -> exporter.Model:
    args = {"params": {"w": W}, "batch": "batch", "rtol": 1e-3, "atol": 1e-6} | options
    return exporter.export(fn, X, jax.random.key(5), **args)


class File:
    """A `.lmn` file taken apart, with every rule of the layout asserted on the way."""

    def __init__(self, data: bytes) -> None:
        fields = struct.unpack_from("<4sHHIIQII", data)
        magic, major, minor, header_len, flags, file_len, count, crc = fields
        assert (magic, major, minor, flags) == (b"LMN\x1a", 1, 0, 0)
        assert file_len == len(data)
        assert header_len == 32 + 32 * count
        assert crc == google_crc32c.value(data[:28] + bytes(4) + data[32:header_len])
        self.sections = {}
        end = header_len
        for i in range(count):
            entry = struct.unpack_from("<IIQQII", data, 32 + 32 * i)
            kind, section_flags, offset, length, align, section_crc = entry
            assert (section_flags, align, offset % 64) == (0, 64, 0)
            assert end <= offset < end + 64
            assert not any(data[end:offset])
            section = data[offset : offset + length]
            assert length > 0
            assert section_crc == google_crc32c.value(section)
            self.sections[kind] = section
            end = offset + length
        assert end == file_len
        assert list(self.sections) == sorted(self.sections)
        self.graph = pb.Graph.FromString(self.sections[1])

    def array(self, section: int, tensor) -> np.ndarray:
        dtype = {F32: "<f4", U32: "<u4", I32: "<i4", BOOL: "?"}[tensor.dtype]
        assert tensor.offset % 64 == 0
        data = self.sections[section][tensor.offset :]
        count = int(np.prod(tensor.shape))
        return np.frombuffer(data, dtype, count).reshape(tuple(tensor.shape))


def text(dim: pb.Dim, symbols) -> str:
    terms = []
    for term in dim.terms:
        factors = [f"{symbols[f.symbol]}^{f.power}" for f in term.factors]
        terms.append("*".join([str(term.coefficient), *factors]))
    return "+".join(terms)


def test_layout_and_graph() -> None:
    model = build()
    file = File(model.to_bytes())
    graph = file.graph
    assert list(file.sections) == [1, 2, 4]
    assert graph.opset == 1  # the oldest that says what this graph does
    assert graph.producer.startswith("lumina-jax")
    assert list(graph.symbols) == ["batch"]
    assert [(v.name, v.dtype, v.role) for v in graph.inputs] == [
        ("x", F32, pb.PLAIN),
        ("key", U32, pb.NOISE_SEED),
    ]
    assert [text(d, graph.symbols) for d in graph.inputs[0].shape] == ["1*batch^1", "4"]
    assert [(v.name, v.dtype) for v in graph.outputs] == [
        ("output['twice']", F32),
        ("output['words']", U32),
        ("output['y']", F32),
        ("output['yes']", BOOL),
    ]
    assert [text(d, graph.symbols) for d in graph.outputs[0].shape] == ["5*batch^1"]
    assert [node.op for node in graph.nodes] == [
        "threefry_fold_in",
        "dot_general",
        "dim_as_value",
        "convert_element_type",
        "mul",
        "reshape",
        "gt",
    ]
    dot = graph.nodes[1]
    assert list(dot.attrs["lhs_contracting"].integers.values) == [1]
    assert dot.attrs["lhs_batch"].WhichOneof("value") == "integers"
    assert dot.source.startswith("test_container.py:")
    assert text(graph.nodes[2].attrs["dim"].shape.dims[0], graph.symbols) == "1*batch^1"
    assert graph.nodes[3].attrs["new_dtype"].text == "f32"


def test_ids_are_dense_and_defined_in_order() -> None:
    graph = File(build().to_bytes()).graph
    defined = [v.id for v in graph.inputs] + [t.id for t in graph.tensors]
    for node in graph.nodes:
        assert set(node.inputs) <= set(defined)
        defined += node.outputs
    assert defined == list(range(len(defined)))
    assert {v.id for v in graph.outputs} <= set(defined)


def test_weights_and_test_vectors() -> None:
    file = File(build().to_bytes())
    by_name = {tensor.name: tensor for tensor in file.graph.tensors}
    np.testing.assert_array_equal(file.array(2, by_name["w"]), W)
    assert [t.shape[0] for test in file.graph.tests for t in test.inputs] == [3, 2, 1, 2]
    for test in file.graph.tests:
        assert test.relative_tolerance == 1e-3
        assert test.absolute_tolerance == 1e-6
        x, key = (file.array(4, tensor) for tensor in test.inputs)
        want = fn({"w": W}, x, jax.random.wrap_key_data(key))
        for name, tensor in zip(sorted(want), test.outputs, strict=True):
            np.testing.assert_allclose(file.array(4, tensor), np.asarray(want[name]), rtol=1e-6)


def test_no_empty_section_and_no_empty_tensor_problem() -> None:
    assert list(File(exporter.export(lambda x: -x, X).to_bytes()).sections) == [1, 4]
    empty = exporter.export(lambda x: -x, np.ones((0, 3), np.float32))
    assert list(File(empty.to_bytes()).sections) == [1]


def test_same_model_same_bytes(tmp_path: Path) -> None:
    assert build().to_bytes() == build().to_bytes()
    script = (
        "import sys, test_container; sys.stdout.buffer.write(test_container.build().to_bytes())"
    )
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "PYTHONHASHSEED": "77",
    }
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, check=True
    )
    assert run.stdout == build().to_bytes()


def test_no_machine_path_in_the_file() -> None:
    data = build().to_bytes()
    assert str(Path(__file__).parent).encode() not in data
    assert str(Path.home()).encode() not in data


def test_save_writes_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.lmn"
    assert build().save(str(path)) == path
    assert path.read_bytes() == build().to_bytes()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert os.listdir(tmp_path) == ["m.lmn"]


def test_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "m.lmn"
    path.write_bytes(b"old")

    def pack(sections):
        yield b"LMN"
        raise KeyboardInterrupt

    monkeypatch.setattr(_container, "pack", pack)
    with pytest.raises(KeyboardInterrupt):
        build().save(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.lmn"]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch) -> None:
    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(SaveError, match=r"cannot save `.*m\.lmn`: No space left on device"):
        build().save(tmp_path / "m.lmn")
    assert os.listdir(tmp_path) == []


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(
        SaveError, match=r"cannot save `.*m\.lmn`: there is no directory `.*none`; make"
    ):
        build().save(tmp_path / "none" / "m.lmn")


def test_directory_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="it is a directory; add a file name"):
        build().save(tmp_path)


def test_graph_larger_than_the_limit(monkeypatch) -> None:
    monkeypatch.setattr(_encode, "GRAPH_LIMIT", 10)
    with pytest.raises(SaveError, match="bytes in the file, expected at most 10"):
        build().to_bytes()


def test_texts_longer_than_the_limit() -> None:
    def refused(symbol: str, name: str) -> str:
        args = {"params": {name: W}, "batch": symbol}
        model = exporter.export(lambda params, x: x @ params[name], X, **args)
        with pytest.raises(SaveError) as fault:
            model.to_bytes()
        return str(fault.value)

    assert "a symbol has 65 bytes, expected at most 64, got `bb" in refused("b" * 65, "w")
    expected = "the name of a weight has 4097 bytes, expected at most 4096, got `ww"
    assert expected in refused("b", "w" * 4097)
    args = {"params": {"w" * 4096: W}, "batch": "b" * 64}
    longest = exporter.export(lambda params, x: x @ params["w" * 4096], X, **args).to_bytes()
    assert b"w" * 4096 in longest


def test_generated_code_is_fresh() -> None:
    pytest.importorskip("grpc_tools")
    from exporter import _generate

    for name, text in _generate.generate().items():
        assert (Path(exporter.__file__).parent / name).read_text() == text, (
            f"{name} is stale: run `make generate`"
        )
