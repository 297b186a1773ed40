"""Arrays at the NumPy entry: layouts, those of other libraries, and what to do about the others."""

import tempfile
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

from lumina_jax import _lumina
from lumina_jax._arguments import kind_of
from lumina_jax.numpy import optical_linear_fused, optical_linear_infer

ONES = np.ones((2, 3), np.float32)


def normals(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def assert_same_bits(got, expected):
    assert got.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


def unaligned(a):
    buffer = np.zeros(a.nbytes + 1, np.uint8)
    view = buffer[1:].view(np.float32).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def mapped(a):
    with tempfile.NamedTemporaryFile() as file:
        a.tofile(file.name)
        return np.memmap(file.name, np.float32, "r", shape=a.shape)


class Tensor:
    """Lends its memory as a tensor of PyTorch does, or says why it does not."""

    def __init__(self, values, error=None):
        self.values, self.error, self.shape = values, error, values.shape

    def __array__(self, dtype=None, copy=None):
        if self.error:
            raise self.error
        return self.values

    def copy(self):
        return self.values.copy()

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        return self.values


def read_only(a):
    view = a.copy()
    view.flags.writeable = False
    return view


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "unaligned": unaligned,
    "read_only": read_only,
    "mapped": mapped,
    "matrix": lambda a: np.asarray(a).view(np.matrix),
    "of_jax": jnp.asarray,
    "tensor": Tensor,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_bits(layout):
    rng = np.random.default_rng(10)
    x, w, b = normals(rng, 6, 10), normals(rng, 7, 10), normals(rng, 7)
    x_view, w_view = LAYOUTS[layout](x), LAYOUTS[layout](w)
    before = x_view.copy(), w_view.copy()
    got = optical_linear_fused(x_view, w_view, np.repeat(b, 2)[::2], 0.1, 8, 5)
    assert_same_bits(got, optical_linear_fused(*before, b, 0.1, 8, 5))
    assert_same_bits(x_view.copy(), before[0])
    assert got.flags.c_contiguous
    assert got.flags.owndata
    assert got.flags.writeable


def test_contiguous_arrays_are_not_copied():
    x, w = np.ones((4096, 512), np.float32), np.ones((2, 512), np.float32)

    def peak(x):
        tracemalloc.start()
        optical_linear_infer(x, w, None, 8)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(x) < x.nbytes / 4
    assert peak(np.asfortranarray(x)) >= x.nbytes


def test_the_native_entry_never_copies():
    v = np.ones((3, 4), np.float32)
    for other in (np.asfortranarray(v), v[:, ::2], unaligned(v)):
        with pytest.raises(ValueError, match=r"^input 0 must be C-contiguous and aligned$"):
            _lumina.call("quantize", {"bits": 8}, [other, np.ones((1, 1), np.float32)])


@pytest.mark.parametrize(
    ("value", "text", "advice"),
    [
        (ONES.astype(np.float64), "must be float32, got float64; pass ",
         "numpy.asarray(input, numpy.float32)"),
        (ONES.astype(">f4"), "must be float32, got >f4; pass ",
         "numpy.asarray(input, numpy.float32)"),
        (Tensor(ONES.astype(np.float64)), "must be float32, got float64; pass ",
         "numpy.asarray(input, numpy.float32)"),
        (np.ma.MaskedArray(ONES, ONES > 0), "is a masked array, whose mask would be lost; "
         "fill it with ", "input.filled(0)"),
        (Tensor(ONES, RuntimeError("Can't call numpy() on Tensor that requires grad.")),
         "must be a numpy.ndarray, got " + kind_of(Tensor(ONES)) + " that NumPy cannot read "
         "(Can't call numpy() on Tensor that requires grad.); pass ",
         "input.detach().cpu().numpy()"),
    ],
)  # fmt: skip
def test_an_array_of_another_kind_is_told_what_to_do_and_it_works(value, text, advice):
    weight = np.ones((4, 3), np.float32)
    with pytest.raises(TypeError) as caught:
        optical_linear_infer(value, weight, None, 8)
    assert str(caught.value) == f"optical_linear_infer: `input` {text}{advice}"
    optical_linear_infer(eval(advice, {"input": value, "numpy": np}), weight, None, 8)


def test_what_a_program_has_set_for_floating_point_errors_changes_nothing():
    tiny = np.float32([[1e-30, 1e30], [1e-38, -1e38]])
    expected = optical_linear_fused(tiny, tiny, None, 1e-40, 8, 0, full_scale=np.float64(1e-30))
    with np.errstate(all="raise"):
        got = optical_linear_fused(tiny, tiny, None, 1e-40, 8, 0, full_scale=np.float64(1e-30))
    assert_same_bits(got, expected)
