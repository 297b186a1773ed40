"""Products of tensors as products of matrices, for layers whose kernel has more than two axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from opt_einsum.parser import get_symbol, parse_einsum_input

from ._context import Calibrated, check_size
from .ranges import Ranges, calibrated_matmul

_BATCH = "lumina_jax batch axes of a kernel"
"""Name of the mapped axis, over which all matrices share their ranges."""


@dataclass(frozen=True)
class Contraction:
    """Which axes of an input and of a kernel are multiplied, as the letters of an einsum."""

    x: str
    kernel: str
    out: str

    @property
    def batch(self) -> str:
        """Axes that all three have: for each place along them there is a matrix of its own."""
        return "".join(c for c in self.kernel if c in self.x and c in self.out)

    @property
    def depth(self) -> str:
        """Axes that are summed over."""
        return "".join(c for c in self.kernel if c in self.x and c not in self.out)

    @property
    def rows(self) -> str:
        """Axes of the input alone."""
        return "".join(c for c in self.x if c in self.out and c not in self.kernel)

    @property
    def columns(self) -> str:
        """Axes of the kernel alone."""
        return "".join(c for c in self.kernel if c in self.out and c not in self.x)

    @property
    def bias(self) -> str:
        """Axes of the bias: those of the output that the kernel has."""
        return "".join(c for c in self.out if c in self.kernel)

    def op(self) -> Calibrated:
        """`calibrated_matmul` of the matrices that input, kernel and bias are."""

        def contracted(
            x: jax.Array,
            kernel: jax.Array,
            bias: jax.Array | None,
            running: Ranges,
            **chain: Any,
        ) -> tuple[jax.Array, Ranges]:
            sizes = dict(zip(self.x + self.kernel, x.shape + kernel.shape, strict=True))
            size = {part: math.prod(sizes[c] for c in getattr(self, part)) for part in _PARTS}
            rows = [sizes[c] for c in self.rows]
            many = [size["batch"]] if self.batch else []
            x = _ordered(x, self.x, self.batch + self.rows + self.depth)
            kernel = _ordered(kernel, self.kernel, self.batch + self.depth + self.columns)
            x = x.reshape(*many, *rows, size["depth"])
            kernel = kernel.reshape(*many, size["depth"], size["columns"])
            if bias is not None:
                bias = _ordered(bias, self.bias, self.batch + self.columns)
                bias = bias.reshape(*many, size["columns"])
            run = _of_many if many else calibrated_matmul
            y, updated = run(x, kernel, bias, running, **chain)
            order = self.batch + self.rows + self.columns
            y = y.reshape([sizes[c] for c in order])
            return _ordered(y, order, self.out), updated

        return contracted


_PARTS = ("batch", "depth", "columns")


def _ordered(value: jax.Array, letters: str, order: str) -> jax.Array:
    if letters == order:
        return value
    return jnp.transpose(value, [letters.index(c) for c in order])


def _of_many(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    running: Ranges,
    *,
    key: jax.Array | None,
    axis_name: Any,
    **chain: Any,
) -> tuple[jax.Array, Ranges]:
    """`calibrated_matmul` of matrices along a first axis, each with noise of its own."""
    outer = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name or ())
    keys = None if key is None else jax.random.split(key, x.shape[0])

    def one(x: Any, kernel: Any, bias: Any, key: Any) -> tuple[jax.Array, Ranges]:
        names = (*outer, _BATCH)
        return calibrated_matmul(x, kernel, bias, running, key=key, axis_name=names, **chain)

    return jax.vmap(one, out_axes=(0, None), axis_name=_BATCH)(x, kernel, bias, keys)


def places_of(layer: str, axis: Sequence[int], batch: Sequence[int], ndim: int) -> tuple[int, ...]:
    """The axes of an input that are summed over, in their order in the input, as Flax has them.

    Raises:
        ValueError: an axis is beyond the input, given twice, or a batch axis as well.
    """
    places = sorted(a + ndim if a < 0 else a for a in axis)
    if not all(0 <= place < ndim for place in (*batch, *places)):
        raise ValueError(
            f"{layer}: `axis` is {tuple(axis)} and batch axes are {tuple(batch)}, but `x` has "
            f"{ndim} axes"
        )
    if len({*batch, *places}) < len(batch) + len(places):
        raise ValueError(
            f"{layer}: `axis` {tuple(axis)} and batch axes {tuple(batch)} name an axis twice"
        )
    return tuple(places)


def of_axes(ndim: int, axis: Sequence[int], batch: Sequence[int], features: int) -> Contraction:
    """The contraction along axes of an input of `ndim` with a kernel of `features` axes more."""
    x = "".join(map(get_symbol, range(ndim)))
    columns = "".join(map(get_symbol, range(ndim, ndim + features)))
    of_batch, of_depth = ("".join(x[a] for a in axes) for axes in (batch, axis))
    rows = "".join(c for c in x if c not in of_batch + of_depth)
    return Contraction(x, of_batch + of_depth + columns, of_batch + rows + columns)


def of_equation(
    layer: str, equation: str, x: jax.Array, kernel_shape: tuple[int, ...]
) -> Contraction:
    """The contraction of an einsum, `...` included.

    Raises:
        ValueError: it is no product of matrices, or does not fit the shapes.
    """
    check_equation(layer, equation)
    given = f"{layer}: `einsum_str` is {equation!r}"
    unfit = f"{given}, which does not fit `x` of shape {x.shape} and a kernel of {kernel_shape}"
    try:
        shapes = (equation.replace(" ", ""), x.shape, kernel_shape)
        operands, out, _ = parse_einsum_input(shapes, shapes=True)
    except ValueError as fault:
        raise ValueError(f"{unfit}: {fault}") from None
    of_x, of_kernel = operands.split(",")
    contraction = Contraction(of_x, of_kernel, out)
    letters, extents = of_x + of_kernel, x.shape + kernel_shape
    places = dict(zip(letters, extents, strict=False))
    if len(letters) != len(extents) or any(
        places[c] != extent for c, extent in zip(letters, extents, strict=True)
    ):
        raise ValueError(unfit)
    parts = contraction.batch + contraction.depth + contraction.rows + contraction.columns
    for letter in letters:
        if max(of_x.count(letter), of_kernel.count(letter)) > 1:
            raise ValueError(f"{given} and takes a diagonal along {letter!r}, expected a product")
        if letter not in parts:
            raise ValueError(
                f"{given} and sums over {letter!r} of one operand alone, expected a product"
            )
    return contraction


def check_equation(layer: str, equation: Any) -> None:
    """Raises ValueError unless it is the text of an einsum of two operands with a result."""
    if not isinstance(equation, str) or equation.count(",") != 1 or equation.count("->") != 1:
        raise ValueError(
            f"{layer}: `einsum_str` is {equation!r}, expected the letters of input, kernel and "
            "result, such as 'btd,dhk->bthk'"
        )


def flattened(init: Callable[..., Any], columns: int | None) -> Callable[..., Any]:
    """`init` of a matrix whose numbers fill a tensor: initializers scale by the sides of a matrix.

    The last `columns` axes of the tensor are one side; with None all of it is one vector.
    """

    def filled(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> Any:
        sides = (math.prod(shape),)
        if columns is not None:
            sides = (math.prod(shape[:-columns]), math.prod(shape[-columns:]))
        value = init(key, sides, dtype)
        if isinstance(value, nnx.VariableMetadata):
            value.raw_value = value.raw_value.reshape(shape)
            return value
        # What Linen boxes is a tree of one leaf.
        return jax.tree.map(lambda value: value.reshape(shape), value)

    return filled


def sizes_of(layer: str, name: str, value: Any) -> tuple[int, ...]:
    """A size or several as a tuple; ValueError unless they are positive ints."""
    sizes = tuple(value) if isinstance(value, Sequence) else (value,)
    if not sizes:
        raise ValueError(f"{layer}: `{name}` is {value!r}, expected a positive int or several")
    for size in sizes:
        check_size(layer, name, size)
    return sizes


def axes_of(layer: str, name: str, value: Any) -> tuple[int, ...]:
    """An axis or several as a tuple; ValueError unless they are ints."""
    axes = tuple(value) if isinstance(value, Sequence) else (value,)
    if any(not isinstance(axis, int) or isinstance(axis, bool) for axis in axes):
        raise ValueError(f"{layer}: `{name}` is {value!r}, expected an int or several")
    return axes


def check_batch(layer: str, name: str, axes: Sequence[int]) -> None:
    """Raises ValueError unless batch axes are the first ones, in order."""
    if tuple(axes) != tuple(range(len(axes))):
        raise ValueError(
            f"{layer}: `{name}` is {tuple(axes)}, expected the first axes in order, such as (0, 1)"
        )
