"""Tensors as operators see them, beside the values that a reference computes with."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ._datatypes import InfiniDtype, decoded, encoded, stored_dtype, to_torch_dtype
from ._devices import InfiniDeviceEnum, torch_device_map
from ._library import check_error, shared_lib
from ._structs import infiniopHandle_t, infiniopTensorDescriptor_t

if TYPE_CHECKING:
    import torch  # pyright: ignore[reportMissingImports]

Mode: TypeAlias = Literal[
    "random", "zeros", "ones", "randint", "float8_e4m3fn", "manual", "binary"
]  # fmt: skip

_generator = np.random.default_rng(0)

# Significant bits: random numbers are multiples of 2^-bits in [0, 1), which the type has exactly.
_SIGNIFICANT = {
    InfiniDtype.F8: 4,
    InfiniDtype.BF16: 8,
    InfiniDtype.F16: 11,
    InfiniDtype.F32: 24,
    InfiniDtype.F64: 53,
    InfiniDtype.C32: 24,
    InfiniDtype.C64: 53,
}
# Integers that are asked for without a range come from this one, as far as the type has it.
_WIDEST = 2_000_000_000


def set_seed(seed: int) -> None:
    """Begins the random numbers of all further tensors again; a program begins with seed 0."""
    global _generator
    _generator = np.random.default_rng(seed)


class CTensor:
    """A tensor descriptor of the C ABI: type, shape, and strides counted in elements.

    Strides of None are row-major. `descriptor` is made when it is first asked for, and raises
    InfiniError where the library has no such tensors. `destroy_desc` frees it: an operator that was
    created with it no longer needs it.
    """

    def __init__(
        self, dt: InfiniDtype, shape: Sequence[int], strides: Sequence[int] | None
    ) -> None:
        self.dt = dt
        self.ndim = len(shape)
        strides = _row_major(shape) if strides is None else strides
        if len(strides) != self.ndim:
            raise ValueError(f"CTensor: {len(strides)} `strides` for {self.ndim} axes")
        self.c_shape = (ctypes.c_size_t * self.ndim)(*shape)
        self.c_strides = (ctypes.c_ssize_t * self.ndim)(*strides)
        self._descriptor: Any = None
        self._destroyed = False

    @property
    def descriptor(self) -> Any:
        """What operators are created with; None once it was destroyed."""
        if self._descriptor is None and not self._destroyed:
            made = infiniopTensorDescriptor_t()
            status = shared_lib().infiniopCreateTensorDescriptor(
                ctypes.byref(made), self.ndim, self.c_shape, self.c_strides, self.dt
            )
            check_error(status)
            self._descriptor = made
        return self._descriptor

    def destroy_desc(self) -> None:
        """Frees the descriptor; once is enough, and twice is no error."""
        made, self._descriptor, self._destroyed = self._descriptor, None, True
        if made is not None:
            check_error(shared_lib().infiniopDestroyTensorDescriptor(made))


class TestTensor(CTensor):
    """A tensor in memory with any strides, and its values for a reference.

    An axis of stride 0 is one element in memory that is seen `shape[axis]` times; in the values it
    has the extent 1, so that they broadcast. Elements between those of the tensor are zero.

    Args:
      shape, strides: as the descriptor has them; strides may be None, 0 or negative.
      dt: element type.
      device: where the memory is; all but the CPU need PyTorch.
      mode: `random`, in [0, 1) for floats and over the integers from `randint_low` to below
        `randint_high` else; `randint`, such integers in any type; `zeros`; `ones`; `manual` and
        `binary`, the values of `set_tensor`; `float8_e4m3fn`, random numbers rounded to that.
      scale, bias: values of floats are multiplied by `scale`, then `bias` is added.
      set_tensor: array or torch tensor with an extent of 1 where the stride is 0.
      seed: makes the numbers those of this seed, whatever was drawn before; see `set_seed`.

    `torch_tensor` or `numpy` are the values and may be written by a reference; `actual_tensor` or
    `actual_numpy` are the memory, which the library reads and writes at `data()`. Arrays of BF16
    and F8 are float32 copies, because NumPy does not have these types.
    """

    __test__ = False  # no test case, whatever the name tells pytest

    def __init__(
        self,
        shape: Sequence[int],
        strides: Sequence[int] | None,
        dt: int,
        device: int,
        mode: Mode = "random",
        scale: float | None = None,
        bias: float | None = None,
        set_tensor: Any = None,
        randint_low: int | None = None,
        randint_high: int | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__(InfiniDtype(dt), shape, strides)
        self.device = InfiniDeviceEnum(device)
        self.shape = shape
        self.strides = strides
        generator = _generator if seed is None else np.random.default_rng(seed)
        extents = self._extents()
        if mode == "random":
            values = _random(generator, self.dt, extents, (randint_low, randint_high))
        elif mode == "randint":
            values = _integers(generator, self.dt, extents, (randint_low, randint_high))
        elif mode in ("zeros", "ones"):
            values = np.full(extents, mode == "ones")
        elif mode == "float8_e4m3fn":
            if self.dt != InfiniDtype.F8:
                raise ValueError(f"TestTensor: `mode` {mode} needs the type F8, got {self.dt.name}")
            values = generator.random(extents, np.float32)
        elif mode in ("manual", "binary"):
            if set_tensor is None:
                raise ValueError(f"TestTensor: `mode` {mode} needs `set_tensor`")
            values = values_of(set_tensor)
        else:
            raise ValueError(f"TestTensor: unknown `mode` {mode!r}")
        for step, number in ((np.multiply, scale), (np.add, bias)):
            if number is not None:
                values = step(self._rounded(values), number)
        self._put(values)

    def torch_tensor(self) -> torch.Tensor:
        """The values as a torch tensor, each time the same; `numpy` sees what is written there."""
        if self._torch is None:
            # Memory of PyTorch's own: a reference may give the tensor a larger one.
            self._torch = self._as_torch(self._logical).clone()
        return self._torch

    def actual_tensor(self) -> torch.Tensor:
        """The memory as a torch tensor with the strides of this one.

        Raises:
          ValueError: a stride is negative, which PyTorch does not have.
        """
        if self._actual_torch is None:
            if any(stride < 0 for stride in self._steps()):
                raise ValueError(
                    "TestTensor.actual_tensor: PyTorch has no negative strides; use `actual_numpy`"
                )
            self._actual_torch = self._as_torch(self._base).as_strided(
                self._extents(), self._steps()
            )
        return self._actual_torch

    def numpy(self) -> np.ndarray:
        """The values: an array that shares them, or a float32 copy of BF16 and F8."""
        if self._torch is not None:
            return values_of(self._torch)
        return decoded(self._logical, self.dt)

    def actual_numpy(self) -> np.ndarray:
        """What is in memory now: an array that shares it, or a float32 copy of BF16 and F8."""
        if self.device != InfiniDeviceEnum.CPU:
            return values_of(self.actual_tensor())
        return decoded(self._actual, self.dt)

    def data(self) -> int:
        """The address of the first element, the one of index 0 along each axis."""
        return self._address

    def is_broadcast(self) -> bool:
        """Whether a stride is 0."""
        return self.strides is not None and 0 in self.strides

    @staticmethod
    def from_binary(
        binary_file: str | os.PathLike[str],
        shape: Sequence[int],
        strides: Sequence[int] | None,
        dt: int,
        device: int,
    ) -> TestTensor:
        """The tensor whose memory a file holds as it is, beginning with the lowest address.

        Raises:
          ValueError: the file is shorter than the tensor.
        """
        memory = np.fromfile(binary_file, stored_dtype(dt))
        steps = _row_major(shape) if strides is None else strides
        extents = [1 if step == 0 else n for n, step in zip(shape, steps, strict=True)]
        needed = _span(extents, steps)
        if len(memory) < needed:
            raise ValueError(
                f"TestTensor.from_binary: {binary_file} holds {len(memory)} elements, the tensor "
                f"needs {needed}"
            )
        values = decoded(_strided(memory, extents, steps), dt)
        return TestTensor(shape, strides, dt, device, mode="binary", set_tensor=values)

    @staticmethod
    def from_torch(torch_tensor: torch.Tensor, dt: int, device: int) -> TestTensor:
        """A copy of a torch tensor with its shape and strides."""
        shape, strides = list(torch_tensor.shape), list(torch_tensor.stride())
        one = tuple(slice(0, 1) if step == 0 else slice(None) for step in strides)
        values = torch_tensor[one] if shape else torch_tensor
        return TestTensor(shape, strides, dt, device, mode="manual", set_tensor=values)

    @staticmethod
    def from_numpy(array: np.ndarray, dt: int, device: int) -> TestTensor:
        """A copy of an array with its shape and strides.

        Raises:
          ValueError: its strides are no multiples of its elements.
        """
        size = max(array.itemsize, 1)
        if any(step % size for step in array.strides):
            raise ValueError("TestTensor.from_numpy: a stride of `array` is no whole element")
        strides = [step // size for step in array.strides]
        one = tuple(slice(0, 1) if step == 0 else slice(None) for step in strides)
        return TestTensor(array.shape, strides, dt, device, mode="manual", set_tensor=array[one])

    def update_torch_tensor(self, new_tensor: torch.Tensor) -> None:
        """Takes another torch tensor for the values; the memory stays as it is."""
        self._torch = new_tensor

    def set_tensor(self, new_tensor: Any) -> None:
        """Gives values and memory other numbers: those of an array or a torch tensor.

        The memory is a new one, so `data()` and the tensors taken before are no longer those of
        this tensor; its extent is 1 where the stride is 0.
        """
        self._put(values_of(new_tensor))

    def _extents(self) -> list[int]:
        steps = self._steps() if self.strides is None else self.strides
        return [1 if step == 0 else n for n, step in zip(self.shape, steps, strict=True)]

    def _steps(self) -> list[int]:
        """The strides of the values, where an axis that is repeated has one element."""
        if self.strides is None:
            # No stride of it is 0, so that an axis without elements stays one.
            return [max(step, 1) for step in _row_major(self.shape)]
        return [step or 1 for step in self.strides]

    def _rounded(self, values: np.ndarray) -> np.ndarray:
        """The values as the type has them, as float64 where it is a float."""
        if self.dt not in _SIGNIFICANT:
            raise ValueError(f"TestTensor: `scale` and `bias` are for floats, not {self.dt.name}")
        rounded = decoded(encoded(values, self.dt), self.dt)
        return rounded if np.iscomplexobj(rounded) else rounded.astype(np.float64)

    def _put(self, values: np.ndarray) -> None:
        extents, steps = self._extents(), self._steps()
        if list(values.shape) != extents:
            raise ValueError(
                f"TestTensor: `set_tensor` must be {extents}, got {list(values.shape)}"
            )
        self._base, self._actual = _placed(encoded(values, self.dt), steps)
        # Where strides make elements overlap, all of them are what is in memory now.
        self._logical = np.array(self._actual, order="C")
        self._torch: torch.Tensor | None = None
        self._actual_torch: torch.Tensor | None = None
        if self.device == InfiniDeviceEnum.CPU:
            self._address = self._actual.__array_interface__["data"][0]
        else:
            self._address = self.actual_tensor().data_ptr()

    def _as_torch(self, memory: np.ndarray) -> torch.Tensor:
        import torch  # pyright: ignore[reportMissingImports]

        dtype = to_torch_dtype(self.dt)
        shared = torch.from_numpy(memory)
        same = shared if shared.dtype == dtype else shared.view(dtype)
        return same.to(torch_device_map[self.device])


class TestWorkspace:
    """Memory of `size` bytes that a call of an operator works in; none where it is 0."""

    __test__ = False

    def __init__(self, size: int, device: int) -> None:
        self.tensor = TestTensor((size,), None, InfiniDtype.U8, device, "ones") if size else None
        self._size = size

    def data(self) -> int | None:
        """Its address, or None."""
        return self.tensor.data() if self.tensor is not None else None

    def size(self) -> ctypes.c_uint64:
        """Its bytes, as a call takes them."""
        return ctypes.c_uint64(self._size)


def create_handle() -> Any:
    """A handle for the device that `infinirtSetDevice` has chosen."""
    handle = infiniopHandle_t()
    check_error(shared_lib().infiniopCreateHandle(ctypes.byref(handle)))
    return handle


def destroy_handle(handle: Any) -> None:
    """Frees a handle."""
    check_error(shared_lib().infiniopDestroyHandle(handle))


def rearrange_tensor(tensor: Any, new_strides: Sequence[int]) -> Any:
    """A copy of an array or a torch tensor with these strides, counted in elements.

    What lies between the elements is zero; where elements overlap, one of them is there.

    Raises:
      ValueError: the strides are not those of as many axes, or are negative, which PyTorch has not.
    """
    if len(new_strides) != len(tensor.shape):
        raise ValueError(
            f"rearrange_tensor: {len(new_strides)} `new_strides` for {len(tensor.shape)} axes"
        )
    if isinstance(tensor, np.ndarray):
        return _placed(tensor, new_strides)[1]
    if any(stride < 0 for stride in new_strides):
        raise ValueError("rearrange_tensor: PyTorch has no negative strides")
    import torch  # pyright: ignore[reportMissingImports]

    # Integers of the same size stand for types that NumPy lacks.
    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    bits = bits.view(words.get(bits.element_size(), bits.dtype))
    base, _ = _placed(bits.numpy(), new_strides)
    copy = torch.from_numpy(base).view(tensor.dtype).to(tensor.device)
    return copy.as_strided(tensor.shape, list(new_strides))


def values_of(tensor: Any) -> np.ndarray:
    """The values of an array or torch tensor as an array; 8-bit floats and bfloat16 as float32."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        if tensor.dtype.is_floating_point and tensor.dtype not in (
            torch.float16,
            torch.float32,
            torch.float64,
        ):
            tensor = tensor.to(torch.float32)
        return tensor.numpy(force=True)
    array = np.asarray(tensor)
    # Types of ml_dtypes are `void` to NumPy.
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _row_major(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _span(extents: Sequence[int], steps: Sequence[int]) -> int:
    """Elements from the lowest to the highest that a tensor has."""
    if 0 in extents:
        return 0
    return 1 + sum((n - 1) * abs(step) for n, step in zip(extents, steps, strict=True))


def _placed(array: np.ndarray, steps: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """New memory that holds the elements at these strides, and the view of it that is the array."""
    base = np.zeros(_span(array.shape, steps), array.dtype)
    view = _strided(base, array.shape, steps)
    view[...] = array
    return base, view


def _strided(base: np.ndarray, extents: Sequence[int], steps: Sequence[int]) -> np.ndarray:
    """A view of memory that begins with the lowest element."""
    if 0 in extents:
        return np.zeros(extents, base.dtype)
    first = sum((n - 1) * -step for n, step in zip(extents, steps, strict=True) if step < 0)
    size = base.itemsize
    strides = [step * size for step in steps]
    return np.ndarray(tuple(extents), base.dtype, base, first * size, strides)


def _random(
    generator: np.random.Generator,
    dt: InfiniDtype,
    extents: list[int],
    bounds: tuple[int | None, int | None],
) -> np.ndarray:
    if dt not in _SIGNIFICANT:
        return _integers(generator, dt, extents, bounds)
    bits = _SIGNIFICANT[dt]
    is_complex = dt in (InfiniDtype.C32, InfiniDtype.C64)
    # Tensors may be large, so neither the integers nor the floats are wider than they need to be.
    word, real = (np.uint32, np.float32) if bits <= 24 else (np.uint64, np.float64)
    drawn = generator.integers(0, 1 << bits, [*extents, 2] if is_complex else extents, word)
    drawn = drawn.astype(real) * real(2.0**-bits)
    return drawn[..., 0] + 1j * drawn[..., 1] if is_complex else drawn


def _integers(
    generator: np.random.Generator,
    dt: InfiniDtype,
    extents: list[int],
    bounds: tuple[int | None, int | None],
) -> np.ndarray:
    least, beyond = -(1 << 63), 1 << 63
    if dt == InfiniDtype.BOOL:
        least, beyond = 0, 2
    elif dt not in _SIGNIFICANT:
        info = np.iinfo(stored_dtype(dt))
        least, beyond = int(info.min), int(info.max) + 1
    low = max(least, -_WIDEST) if bounds[0] is None else bounds[0]
    high = min(beyond, _WIDEST) if bounds[1] is None else bounds[1]
    if not least <= low < high <= beyond:
        raise ValueError(
            f"TestTensor: `randint_low` {low} and `randint_high` {high} are no range of {dt.name}"
        )
    return generator.integers(low, high, extents, np.uint64 if low >= 0 else np.int64)
