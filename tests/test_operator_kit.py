"""The test kit of operators, `lumina_runtime.testing`, with PyTorch and without."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

kit = pytest.importorskip(
    "lumina_runtime.testing", reason="lumina_runtime is not built: it takes a C++ compiler"
)
ROOT = Path(__file__).parent.parent
D, CPU = kit.InfiniDtype, kit.InfiniDeviceEnum.CPU


def test_types_are_those_of_the_c_abi() -> None:
    assert len(D) == 22
    assert list(D) == list(range(22))
    assert kit.InfiniDtypeNames[12] == "F16"
    bits = {D.BOOL: 8, D.F8: 8, D.BF16: 16, D.C32: 64, D.C64: 128, D.I4: 4, D.U4: 4, D.INVALID: 0}
    assert {dtype: kit.InfiniDtypeBits[dtype] for dtype in bits} == bits
    for dtype in D:
        name = dtype.name
        if name in ("INVALID", "C8", "C16"):
            with pytest.raises(ValueError, match=f"^NumPy arrays cannot hold elements of {name}$"):
                kit.to_numpy_dtype(dtype)
        else:
            # ml_dtypes has one code in a byte, memory two.
            size = kit.to_numpy_dtype(dtype).itemsize
            assert size * 8 == max(kit.InfiniDtypeBits[dtype], 8)
    assert kit.to_numpy_dtype(D.BF16) == np.dtype(ml_dtypes.bfloat16)
    assert kit.to_numpy_dtype(D.BF16, True) == np.float32
    assert kit.to_numpy_dtype(D.U32, compatability_mode=True) == np.int32


def test_devices_have_names_in_both_ways() -> None:
    assert list(kit.InfiniDeviceEnum) == list(range(11))
    assert kit.InfiniDeviceNames[0] == "CPU"
    assert kit.InfiniDeviceNames[2] == "Cambricon"
    assert kit.torch_device_map[kit.InfiniDeviceEnum.MOORE] == "musa"
    assert kit.infini_device_map["cpu"] == (CPU,)
    for device, name in kit.torch_device_map.items():
        assert device in kit.infini_device_map[name]
    assert [len(devices) for devices in kit.infini_device_map.values()] == [1, 7, 1, 1, 1]


@pytest.mark.parametrize(("dtype", "oracle"), [("BF16", "bfloat16"), ("F8", "float8_e4m3fn")])
def test_narrow_floats_are_rounded_as_others_round_them(dtype: str, oracle: str) -> None:
    from lumina_runtime.testing._datatypes import decoded, encoded

    other = np.dtype(getattr(ml_dtypes, oracle))
    bits = np.arange(1 << (8 * other.itemsize), dtype=f"u{other.itemsize}")
    values = decoded(bits, D[dtype])
    np.testing.assert_array_equal(values, bits.view(other).astype(np.float32))
    # Each value, the middle of it and the next one, and their neighbors.
    finite = np.unique(values[np.isfinite(values)])
    middles = (finite[1:].astype(np.float64) + finite[:-1]) / 2
    near = np.concatenate([finite, middles, [460, 464, 464.1, 480, 500, 3e38, np.inf, 1e-30]])
    near = np.concatenate([near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf)])
    with np.errstate(over="ignore"):
        near = np.concatenate([near, -near]).astype(np.float32)
        expected = near.astype(other).astype(np.float32)
    np.testing.assert_array_equal(decoded(encoded(near, D[dtype]), D[dtype]), expected)
    assert np.isnan(decoded(encoded(np.float32(np.nan), D[dtype]), D[dtype]))


def tensor(*args: Any, **options: Any) -> Any:
    return kit.TestTensor(*args, CPU, **options)


STRIDES = [
    ((2, 3), None),
    ((2, 3), (3, 1)),
    ((2, 3), (1, 2)),
    ((2, 3), (8, 2)),
    ((2, 3), (0, 1)),
    ((2, 3), (-3, 1)),
    ((2, 3), (-8, -2)),
    ((4,), (0,)),
    ((), ()),
    ((0, 3), None),
    ((2, 3, 0), (3, 1, 1)),
]


@pytest.mark.parametrize(("shape", "strides"), STRIDES)
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F8", "F64", "I8", "U64", "BOOL", "C32"])
def test_memory_has_the_values_at_their_strides(shape: Any, strides: Any, dtype: str) -> None:
    x = tensor(shape, strides, D[dtype], seed=1)
    steps = strides or [1] * len(shape)
    seen = [1 if step == 0 else n for n, step in zip(shape, steps, strict=True)]
    assert list(x.numpy().shape) == seen
    np.testing.assert_array_equal(x.actual_numpy(), x.numpy())
    assert x.is_broadcast() == (strides is not None and 0 in strides)
    if 0 in shape:
        return
    # The address and the strides of the descriptor lead to the same elements.
    size = kit.InfiniDtypeBits[D[dtype]] // 8
    steps = [step * size for step in x.c_strides]
    for index in np.ndindex(*seen):
        at = x.data() + sum(i * step for i, step in zip(index, steps, strict=True))
        raw = np.frombuffer(ctypes.string_at(at, size), x._actual.dtype)[0]
        assert raw == x._actual[index]
    assert list(x.c_shape) == list(shape)


def test_descriptors_live_until_they_are_destroyed() -> None:
    x = tensor((2, 3), (-3, 0), D.F32)
    made = x.descriptor
    assert made
    assert x.descriptor is made
    x.destroy_desc()
    x.destroy_desc()
    assert x.descriptor is None
    with pytest.raises(kit.InfiniError, match="status 10, BAD_TENSOR_DTYPE"):
        _ = tensor((2,), None, D.F8).descriptor


def test_random_numbers_follow_from_the_seed() -> None:
    first = tensor((5, 7), None, D.F32, seed=3).numpy()
    np.testing.assert_array_equal(tensor((5, 7), None, D.F32, seed=3).numpy(), first)
    assert (tensor((5, 7), None, D.F32, seed=4).numpy() != first).any()
    kit.set_seed(3)
    np.testing.assert_array_equal(tensor((5, 7), None, D.F32).numpy(), first)
    assert (tensor((5, 7), None, D.F32).numpy() != first).any()


@pytest.mark.parametrize("dtype", ["F8", "F16", "BF16", "F32", "F64"])
def test_random_floats_are_in_the_unit_interval(dtype: str) -> None:
    values = tensor((4096,), None, D[dtype], seed=0).numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.astype(np.float64).mean() - 0.5) < 0.05  # 11 standard deviations


def test_modes_scale_and_bias() -> None:
    assert (tensor((3,), None, D.F16, mode="zeros").numpy() == 0).all()
    assert (tensor((3,), None, D.I32, mode="ones").numpy() == 1).all()
    three = {"mode": "randint", "randint_low": 3, "randint_high": 6, "seed": 0}
    drawn = tensor((999,), None, D.U8, **three).numpy()
    assert set(drawn.tolist()) == {3, 4, 5}
    assert set(tensor((999,), None, D.F32, **three).numpy().tolist()) == {3, 4, 5}
    wide = tensor((99,), None, D.I8, seed=0).numpy()
    assert wide.min() < -100
    assert wide.max() > 100
    shifted = tensor((9,), None, D.F32, scale=2.0, bias=-1.0, seed=5).numpy()
    plain = tensor((9,), None, D.F32, seed=5).numpy()
    np.testing.assert_array_equal(shifted, plain * 2 - 1)
    manual = tensor((2, 2), (1, 2), D.BF16, mode="manual", set_tensor=np.array([[1, 2], [3, 4.01]]))
    np.testing.assert_array_equal(manual.actual_numpy(), [[1, 2], [3, 4]])
    f8 = tensor((64,), None, D.F8, mode="float8_e4m3fn", seed=2).numpy()
    assert len(np.unique(f8)) > 16
    manual.set_tensor([[5, 6], [7, 8]])
    np.testing.assert_array_equal(manual.numpy(), [[5, 6], [7, 8]])
    assert ctypes.string_at(manual.data() + 2, 2) == np.array(7, ml_dtypes.bfloat16).tobytes()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: tensor((2,), (1, 1), D.F32), "2 `strides` for 1 axes"),
        (lambda: tensor((2,), None, D.F32, mode="normal"), "unknown `mode` 'normal'"),
        (lambda: tensor((2,), None, D.F32, mode="manual"), "`mode` manual needs `set_tensor`"),
        (
            lambda: tensor((2,), None, D.F32, mode="manual", set_tensor=np.zeros(3)),
            r"`set_tensor` must be \[2\], got \[3\]",
        ),
        (lambda: tensor((2,), None, D.F32, mode="float8_e4m3fn"), "needs the type F8, got F32"),
        (lambda: tensor((2,), None, D.I8, scale=0.5), "`scale` and `bias` are for floats, not I8"),
        (lambda: tensor((2,), None, D.U8, randint_low=-1), "-1 and .* 256 are no range of U8"),
        (lambda: tensor((2,), None, D.I4), "cannot hold elements of I4"),
        (lambda: kit.debug_all([], [], "xor"), "must be `and` or `or`, got 'xor'"),
        (lambda: kit.debug_all([1], [], "or"), "1 `actual_vals`, 0 `desired_vals`"),
        (lambda: kit.debug(np.zeros(2), np.zeros(3)), r"got \[2\], expected \[3\]"),
        (lambda: kit.timed_op(int, 0, "cpu"), "`num_iterations` must be positive, got 0"),
        (lambda: kit.rearrange_tensor(np.zeros(2), (1, 1)), "2 `new_strides` for 1 axes"),
    ],
)
def test_wrong_arguments_are_told(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_files_and_arrays_become_tensors(tmp_path: Path) -> None:
    memory = np.arange(20, dtype=np.float32)
    memory.tofile(tmp_path / "x.bin")
    x = kit.TestTensor.from_binary(tmp_path / "x.bin", (3, 2, 4), (6, 0, -1), D.F32, CPU)
    np.testing.assert_array_equal(x.numpy()[:, 0], [[3, 2, 1, 0], [9, 8, 7, 6], [15, 14, 13, 12]])
    np.testing.assert_array_equal(x.actual_numpy(), x.numpy())
    with pytest.raises(ValueError, match="holds 20 elements, the tensor needs 21"):
        kit.TestTensor.from_binary(tmp_path / "x.bin", (21,), None, D.F32, CPU)
    array = np.broadcast_to(memory[::-2], (3, 10))
    y = kit.TestTensor.from_numpy(array, D.F32, CPU)
    assert list(y.c_strides) == [0, -2]
    np.testing.assert_array_equal(y.numpy(), array[:1])
    with pytest.raises(ValueError, match="no whole element"):
        kit.TestTensor.from_numpy(np.zeros(4, "i1,f4")["f1"], D.F32, CPU)


def test_rearranged_arrays_have_these_strides() -> None:
    x = np.arange(6, dtype=np.int16).reshape(2, 3)
    for strides in [(3, 1), (1, 2), (-9, 3), (1, 10)]:
        y = kit.rearrange_tensor(x, strides)
        np.testing.assert_array_equal(y, x)
        assert [step // 2 for step in y.strides] == list(strides)


def test_workspaces() -> None:
    none = kit.TestWorkspace(0, CPU)
    assert none.data() is None
    assert none.size().value == 0
    some = kit.TestWorkspace(9, CPU)
    assert ctypes.string_at(some.data(), 9) == b"\1" * 9
    assert some.size().value == 9


def test_tolerances_are_found_by_their_names() -> None:
    tolerances = {D.F16: {"rtol": 1e-2, "atol": 1e-3}}
    assert kit.get_tolerance(tolerances, D.F16) == (1e-3, 1e-2)
    assert kit.get_tolerance(tolerances, D.F32) == (0, 1e-3)
    assert kit.get_tolerance(tolerances, D.F32, default_atol=1) == (1, 1e-3)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("got", "want", "options", "differ"),
    [
        ([1.0, 2.0], [1.0, 2.1], {"rtol": 0.1}, []),
        ([1.0, 2.0], [1.0, 2.1], {"rtol": 0.01}, [1]),
        ([1.0, 2.0], [1.0, 2.1], {"rtol": 0, "atol": 0.11}, []),
        ([NAN, 1.0, NAN], [NAN, NAN, 1.0], {}, [1, 2]),
        ([NAN, 1.0, NAN], [NAN, NAN, 1.0], {"equal_nan": False}, [0, 1, 2]),
        ([INF, INF, 1.0, INF], [INF, -INF, INF, 1.0], {"rtol": 1.0}, [1, 2, 3]),
        ([2**62 + 1, 7], [2**62, 7], {"rtol": 0}, [0]),
        ([True, False], [True, True], {}, [1]),
        ([1 + 1j, 1.0], [1 + 2j, 1.0], {}, [0]),
    ],
)
def test_what_differs_is_found(got: Any, want: Any, options: Any, differ: Any) -> None:
    found = kit.print_discrepancy(np.array(got), np.array(want), verbose=False, **options)
    assert found[:, 0].tolist() == differ


def test_what_differs_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    got, want = np.array([[1.0, 2.0]]), np.array([[1.0, 2.5]])
    with pytest.raises(AssertionError, match=r"1 of 2 elements differ with atol 0, rtol 0\.01"):
        kit.debug(got, want)
    printed = capsys.readouterr().out
    assert "(0, 1)" in printed
    assert "difference -0.5" in printed
    assert "1 of 2 elements differ" in printed
    assert "\033" not in printed  # no terminal
    kit.debug(got, want, rtol=0.3)
    kit.debug_all([got, got], [want, got], "or")
    with pytest.raises(AssertionError, match=r"pairs \[1\] of 2 differ"):
        kit.debug_all([got, got], [want, got], "and", verbose=False)
    with pytest.raises(AssertionError, match=r"pairs \[1, 2\] of 2 differ"):
        kit.debug_all([got, got], [want, want], "or", verbose=False)


def test_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["test.py"])
    args = kit.get_args()
    assert kit.get_test_devices(args) == [CPU]
    assert (args.num_prerun, args.num_iterations) == (10, 1000)
    assert (args.debug, args.profile) == (False, False)
    line = "test.py --cpu --nvidia --ali --profile --num_prerun -3 --num_iterations 7 --seed 5"
    monkeypatch.setattr(sys, "argv", line.split())
    args = kit.get_args()
    assert kit.get_test_devices(args) == [0, 1, 10]
    assert (args.num_prerun, args.num_iterations) == (0, 7)
    drawn = tensor((3,), None, D.F32).numpy()
    np.testing.assert_array_equal(drawn, tensor((3,), None, D.F32, seed=5).numpy())


def test_devices_without_bf16_leave_it_out() -> None:
    dtypes = [D.F16, D.BF16]
    assert kit.filter_tensor_dtypes_by_device(CPU, dtypes) == dtypes
    assert kit.filter_tensor_dtypes_by_device(kit.InfiniDeviceEnum.HYGON, dtypes) == [D.F16]


def test_a_failure_has_the_name_and_the_text_of_its_status() -> None:
    kit.check_error(0)
    handle = kit.infiniopHandle_t()
    lib = kit.LIBINFINIOP
    with pytest.raises(kit.InfiniError, match=r"status 4, NULL_POINTER: .*null") as caught:
        kit.check_error(lib.infiniopCreateTensorDescriptor(None, 0, None, None, D.F32))
    assert caught.value.status == kit.InfiniStatus.NULL_POINTER
    assert "unknown" in str(kit.InfiniError(99))
    with pytest.raises(AttributeError, match="the library has no function `infiniopNothing`"):
        _ = lib.infiniopNothing
    with pytest.raises(OSError, match=r"no libinfiniop\.so and no libinfinirt\.so in"):
        kit.open_lib("/nowhere")
    assert not handle


SCRIPT = """
import ctypes
import numpy as np
from ctypes import c_uint64
from lumina_runtime.testing import *

DEBUG = PROFILE = False

def test(handle, device, shape, strides, dtype=InfiniDtype.F16, sync=None):
    print(f"Testing Add on {InfiniDeviceNames[device]} {shape} {strides} {InfiniDtypeNames[dtype]}")
    a = TestTensor(shape, strides, dtype, device)
    b = TestTensor(shape, None, dtype, device, scale=0.5, bias=-0.25)
    c = TestTensor(shape, None, dtype, device, mode="zeros")
    descriptor = infiniopOperatorDescriptor_t()
    check_error(LIBINFINIOP.infiniopCreateAddDescriptor(
        handle, ctypes.byref(descriptor), c.descriptor, a.descriptor, b.descriptor))
    for tensor in (a, b, c):
        tensor.destroy_desc()
    size = c_uint64(0)
    check_error(LIBINFINIOP.infiniopGetAddWorkspaceSize(descriptor, ctypes.byref(size)))
    workspace = TestWorkspace(size.value, device)
    def lib_add():
        check_error(LIBINFINIOP.infiniopAdd(
            descriptor, workspace.data(), workspace.size(), c.data(), a.data(), b.data(), None))
    lib_add()
    atol, rtol = get_tolerance({InfiniDtype.F32: {"atol": 0, "rtol": 1e-6}}, dtype, 0, 1e-2)
    want = a.numpy().astype(np.float32) + b.numpy().astype(np.float32)
    debug(c.actual_numpy(), want, atol=atol, rtol=rtol, verbose=DEBUG)
    if PROFILE:
        profile_operation("lib", lib_add, device, NUM_PRERUN, NUM_ITERATIONS)
    check_error(LIBINFINIOP.infiniopDestroyAddDescriptor(descriptor))

if __name__ == "__main__":
    args = get_args()
    DEBUG, PROFILE = args.debug, args.profile
    NUM_PRERUN, NUM_ITERATIONS = args.num_prerun, args.num_iterations
    cases = [((3, 4), None), ((3, 4), (1, 3)), ((3, 4), (0, 1)), ((3, 4), (-4, -1))]
    for device in get_test_devices(args):
        test_operator(device, test, cases, [InfiniDtype.F16, InfiniDtype.BF16, InfiniDtype.F32])
    print("passed")
"""


def test_a_script_of_an_operator_runs(tmp_path: Path) -> None:
    (tmp_path / "add.py").write_text(SCRIPT, encoding="utf-8")
    line = [sys.executable, "add.py", "--cpu", "--profile", "--debug"]
    line += ["--num_prerun", "1", "--num_iterations", "3"]
    ran = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("Testing Add on CPU") == 12
    assert ran.stdout.count(" lib time: ") == 12
    assert ran.stdout.endswith("passed\n")


def test_operators_have_argument_types() -> None:
    lib = kit.LIBINFINIOP
    assert lib.infiniopGemm.argtypes[-3:] == [ctypes.c_float, ctypes.c_float, ctypes.c_void_p]
    assert lib.infiniopRearrange.argtypes[1:] == [ctypes.c_void_p] * 3
    by_host, by_device = lib.infiniopDeepseekMoe, lib.infiniopDeepseekMoeWithDevicePtrs
    assert by_device.argtypes == by_host.argtypes[:7] + [ctypes.c_void_p] * 4
    with pytest.raises(kit.InfiniError, match=r"status 2, .* DeepseekMoeWithDevicePtrs"):
        kit.check_error(by_device(*[None] * 2, 0, *[None] * 8))
    seen = []

    @kit.OpRegister.operator
    def declared(lib: Any) -> None:
        seen.append(lib)

    try:
        assert kit.open_lib() is seen[0]
    finally:
        kit.OpRegister.registry.remove(declared)


def test_argument_types_are_those_of_the_list_in_rust() -> None:
    from lumina_runtime.testing import _register

    ours = {
        name: (created, called)
        for created, called, names in _register._OPERATORS
        for name in names.split()
    }
    text = (ROOT / "runtime/capi/src/operators/list.rs").read_text(encoding="utf-8")
    listed = re.findall(
        r"\{\s*(direct )?(\w+)\(([^;)]*);([^;)]*)(?:;([^)]*))?\)"
        r"(?:\s*run\(([^)]*)\))?(?:\s*again\(([^)]*)\))?",
        text[text.index("\noperators! {") :],
    )
    assert len(listed) >= 30
    letters = {"f32": "f", "c_int": "i", "usize": "n", "bool": "b"}

    def items(text: str) -> list[str]:
        return [item.strip() for item in text.split(",") if item.strip()]

    def types(text: str) -> str:
        kinds = [item.split(":")[1].strip() for item in items(text)]
        return "".join("p" if kind.startswith("*const") else letters[kind] for kind in kinds)

    for direct, name, outputs, inputs, params, numbers, again in listed:
        count = len(items(outputs)) + len(items(inputs))
        created = "t" * count + types(params)
        called = "p" * count + "f" * len(items(numbers)) + types(again)
        assert ours[name] == (created, called), name
        assert (name in _register._WITHOUT_WORKSPACE) == bool(direct)
    # Others are there, and say that they are not.
    lib = kit.LIBINFINIOP
    for name in ours:
        assert hasattr(lib, f"infiniopCreate{name}Descriptor"), name
    descriptor = kit.infiniopOperatorDescriptor_t()
    status = lib.infiniopCreateAtanhDescriptor(None, ctypes.byref(descriptor), None, None)
    with pytest.raises(kit.InfiniError, match=r"status 2, NOT_IMPLEMENTED: .* Atanh"):
        kit.check_error(status)


def test_torch_tensors_share_memory_and_values() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (D.F32, D.F16, D.BF16, D.I64, D.BOOL, D.F8):
        x = tensor((4, 3), (1, 4), dtype, seed=0)
        assert x.torch_tensor() is x.torch_tensor()
        assert x.torch_tensor().dtype == x.actual_tensor().dtype == kit.to_torch_dtype(dtype)
        assert x.actual_tensor().stride() == (1, 4)
        assert x.actual_tensor().data_ptr() == x.data()
        np.testing.assert_array_equal(x.numpy(), x.actual_numpy())
        x.torch_tensor().set_(x.torch_tensor().untyped_storage(), 0, (4, 3), (30, 1))
        x.torch_tensor().zero_()
        assert not x.numpy().any()
        assert x.actual_numpy().any()
        x.actual_tensor().zero_()
        assert not x.actual_numpy().any()
    y = tensor((2, 2), None, D.F32)
    y.update_torch_tensor(torch.full((2, 2), 7.0))
    assert (y.numpy() == 7).all()
    with pytest.raises(ValueError, match="PyTorch has no negative strides; use `actual_numpy`"):
        tensor((2,), (-1,), D.F32).actual_tensor()
    z = kit.TestTensor.from_torch(torch.arange(3.0).expand(2, 3), D.F32, CPU)
    assert list(z.c_strides) == [0, 1]
    assert z.numpy().tolist() == [[0, 1, 2]]


def test_torch_tensors_are_rearranged_and_compared() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.uint16, torch.complex128, torch.bool):
        x = torch.tensor([[1, 0, 1], [1, 1, 0]]).to(dtype)
        y = kit.rearrange_tensor(x, (1, 2))
        assert y.stride() == (1, 2)
        assert y.dtype == dtype
        assert torch.equal(y.to(torch.complex128), x.to(torch.complex128))
    with pytest.raises(ValueError, match="PyTorch has no negative strides"):
        kit.rearrange_tensor(torch.zeros(2), (-1,))
    waiting = torch.tensor([1 + 2j, 3 - 4j]).conj()
    np.testing.assert_array_equal(kit.rearrange_tensor(waiting, (2,)).numpy(), [1 - 2j, 3 + 4j])
    kit.debug(waiting, np.array([1 - 2j, 3 + 4j]), rtol=0)
    half = torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    kit.debug(half, np.array([1.0, 2.0]))
    assert len(kit.print_discrepancy(half, half + 1, verbose=False)) == 2
    with pytest.raises(ValueError, match="no counterpart of C8"):
        kit.to_torch_dtype(D.C8)
    assert kit.to_torch_dtype(D.U16, compatability_mode=True) == torch.int16
    assert kit.get_sync_func(CPU) is None
    kit.synchronize_device(CPU)
    with pytest.raises(RuntimeError, match="not built for devices of the type `musa`"):
        kit.get_sync_func(kit.InfiniDeviceEnum.MOORE)


def test_numpy_is_enough() -> None:
    code = """
import sys
sys.modules["torch"] = sys.modules["ml_dtypes"] = None
import lumina_runtime.testing as kit
x = kit.TestTensor((2, 2), (1, 2), kit.InfiniDtype.BF16, 0)
kit.debug(x.actual_numpy(), x.numpy(), verbose=False)
try:
    kit.to_numpy_dtype(kit.InfiniDtype.BF16)
except ValueError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "to_numpy_dtype: BF16 needs the package `ml_dtypes`\n"
