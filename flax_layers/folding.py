"""Batch norms folded into the layers before them, for deployment.

A norm that uses its running statistics is affine in each feature, and so are weights and bias of
the layer before it:

    (x·w + b - mean) · s + β = x·(w·s) + ((b - mean)·s + β)        s = γ / √(var + ε)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import nnx, traverse_util

from lumina_jax import _html
from lumina_jax._arguments import instance
from lumina_jax._jaxpr import Interpreter, Site, array_type

__all__ = ["FoldedNorm", "Folding", "fold_batch_norm"]

_OP = "fold_batch_norm"
_HEAD = ("norm", "folded into", "because")

Path = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class FoldedNorm:
    """One batch norm of a model."""

    path: str
    """Where it is, names joined by "/"."""
    layer: str | None
    """The layer that it was folded into; None: it stays."""
    reason: str
    """Why it stays, or what is left of it; empty where nothing is."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Folding:
    """What `fold_batch_norm` did; `str` is a table."""

    norms: tuple[FoldedNorm, ...]
    """The batch norms of the model."""
    variables: Any
    """Linen: the variables with norms folded. NNX: None, the model has them."""

    def __repr__(self) -> str:
        folded = sum(norm.layer is not None for norm in self.norms)
        return f"Folding: {folded} of {len(self.norms)} batch norms"

    def _rows(self) -> list[tuple[str, ...]]:
        return [(norm.path, norm.layer or "-", norm.reason) for norm in self.norms]

    def _repr_html_(self) -> str:
        return _html.table(repr(self), _HEAD, self._rows())

    def __str__(self) -> str:
        return f"{self!r}\n\n{_html.plain(_HEAD, self._rows())}"


def fold_batch_norm(
    model: nn.Module | nnx.Module,
    *inputs: Any,
    variables: Mapping[str, Any] | None = None,
    **options: Any,
) -> Folding:
    """Folds the batch norms of a model into the dense layers and convolutions before them.

        variables = fold_batch_norm(model, x, variables=variables, train=False).variables    # Linen
        fold_batch_norm(model, x)                                                # NNX, in place

    A norm is folded where it uses its running statistics and is the only one to read what a layer
    of Flax puts out, whose parameters nothing else reads. The tree of the parameters stays as it
    is: the kernel takes the factors; a bias takes the rest, which leaves the norm an identity; of a
    layer without one the norm keeps to add what is added.

    Fold before `convert` and `calibrate`, whose converters would see the unfolded signals. The
    parameters of the model fit the converted one.

    Args:
        model: a Linen or NNX model of ordinary layers.
        *inputs: what it is called with; only shapes and types matter.
        variables: Linen only: those of the model.
        **options: other arguments of the call, those with which the model infers: `train=False`.

    Raises:
        TypeError: `model` is no Flax module, or `variables` are missing or too many.
    """
    kinds = "a flax.linen.Module or a flax.nnx.Module"
    instance(_OP, "model", model, nn.Module | nnx.Module, kinds)
    if isinstance(model, nn.Module):
        instance(_OP, "variables", variables, Mapping, "the variables of the Linen model")
        assert variables is not None
        values = traverse_util.flatten_dict(nn.meta.unbox(variables))
        apply = model.apply

        def call(values: dict[Path, Any], inputs: Any) -> Any:
            return apply(traverse_util.unflatten_dict(values), *inputs, **options)

        roots: dict[str, Path] = {"statistics": ("batch_stats",), "parameters": ("params",)}
    else:
        instance(_OP, "variables", variables, type(None), "None with an NNX model")
        inferring = nnx.clone(model)
        inferring.eval()
        graph, state, rest = nnx.split(inferring, (nnx.Param, nnx.BatchStat), ...)
        values = traverse_util.flatten_dict(nnx.to_pure_dict(state))

        def call(values: dict[Path, Any], inputs: Any) -> Any:
            nnx.replace_by_pure_dict(state, traverse_util.unflatten_dict(values))
            return nnx.merge(graph, state, rest)(*inputs, **options)

        roots = {"statistics": (), "parameters": ()}

    traced = _Trace.of(call, values, inputs)
    norms, folded = [], dict(values)
    for path in _norms(values, roots["statistics"]):
        norm = _Norm(path, roots["statistics"], roots["parameters"])
        product, eps, fault = traced.before(norm)
        if product is None:
            norms.append(FoldedNorm(path="/".join(map(str, path)), layer=None, reason=fault))
            continue
        left = _fold(folded, norm, product, eps)
        layer = product.kernel[len(roots["parameters"]) : -1]
        norms.append(
            FoldedNorm(path="/".join(map(str, path)), layer="/".join(map(str, layer)), reason=left)
        )
    if isinstance(model, nn.Module):
        assert variables is not None
        boxed = {name: variables[name] for name in variables}
        result = nn.meta.replace_boxed(boxed, traverse_util.unflatten_dict(folded))
        return Folding(norms=tuple(norms), variables=result)
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    nnx.replace_by_pure_dict(state, traverse_util.unflatten_dict(folded))
    nnx.update(model, state)
    return Folding(norms=tuple(norms), variables=None)


@dataclass(frozen=True)
class _Norm:
    """Where the values of a norm are."""

    path: Path
    statistics: Path
    parameters: Path

    def of(self, name: str) -> Path:
        root = self.statistics if name in ("mean", "var") else self.parameters
        return (*root, *self.path, name)


def _norms(values: Mapping[Path, Any], root: Path) -> list[Path]:
    """Paths of the norms: a mean and a variance side by side."""
    return [
        path[len(root) : -1]
        for path in values
        if path[: len(root)] == root and path[-1] == "mean" and (*path[:-1], "var") in values
    ]


def _fold(values: dict[Path, Any], norm: _Norm, product: _Product, eps: float) -> str:
    """Changes `values`; what is left of the norm, in words."""

    def get(path: Path | None, default: float) -> np.ndarray:
        value = values.get(path) if path else None
        return np.asarray(default if value is None else value, np.float64)

    def put(path: Path, value: Any) -> None:
        old = values[path]
        values[path] = jax.numpy.broadcast_to(jax.numpy.asarray(value, old.dtype), old.shape)

    factor = get(norm.of("scale"), 1.0) / np.sqrt(get(norm.of("var"), 1.0) + eps)
    added = (get(product.bias, 0.0) - get(norm.of("mean"), 0.0)) * factor + get(
        norm.of("bias"), 0.0
    )
    put(product.kernel, get(product.kernel, 1.0) * factor)
    put(norm.of("var"), 1.0 - eps)
    put(norm.of("mean"), 0.0)
    if norm.of("scale") in values:
        put(norm.of("scale"), 1.0)
    if norm.of("bias") in values:
        put(norm.of("bias"), 0.0)
    if product.bias is not None:
        put(product.bias, added)
        return ""
    if norm.of("bias") in values:
        put(norm.of("bias"), added)
    else:
        put(norm.of("mean"), -added)
    return "the layer has no bias, so the norm still adds one"


@dataclass(eq=False)
class _Product:
    """The output of a layer, and how many equations read it as such."""

    kernel: Path
    bias: Path | None = None
    uses: int = 0


@dataclass(frozen=True)
class _Value:
    """What is known of a value: a variable of the model, the output of a layer, or a number."""

    path: Path | None = None
    product: _Product | None = None
    number: float | None = None
    shape: tuple[Any, ...] = ()


_RESHAPES = ("reshape", "broadcast_in_dim", "squeeze", "convert_element_type", "copy")


@dataclass(eq=False)
class _Trace(Interpreter[_Value]):
    """What a model does with its variables, from its jaxpr."""

    shapes: dict[Path, tuple[int, ...]]
    """Of the variables."""
    uses: dict[Path, int] = field(default_factory=dict)
    """How many equations read each variable."""
    centered: dict[Path, _Product | None] = field(default_factory=dict)
    """What a mean is subtracted from; None is no output of a layer."""
    eps: dict[Path, float] = field(default_factory=dict)
    """What is added to a variance."""

    @classmethod
    def of(cls, call: Any, values: dict[Path, Any], inputs: Sequence[Any]) -> _Trace:
        paths = list(values)
        leaves, structure = jax.tree.flatten(inputs)
        arrays = {i for i, leaf in enumerate(leaves) if hasattr(leaf, "shape")}

        def flat(variables: list[Any], given: list[Any]) -> Any:
            rest = iter(given)
            all_leaves = [next(rest) if i in arrays else leaf for i, leaf in enumerate(leaves)]
            filled = jax.tree.unflatten(structure, all_leaves)
            return call(dict(zip(paths, variables, strict=True)), filled)

        given = [leaf for i, leaf in enumerate(leaves) if i in arrays]
        jaxpr = jax.make_jaxpr(flat)(list(values.values()), given)
        trace = cls({path: np.shape(value) for path, value in values.items()})
        known = [_Value(path=path, shape=shape) for path, shape in trace.shapes.items()]
        results = trace.run(jaxpr, [*known, *(_Value() for _ in given)])
        trace.read(results)
        return trace

    def before(self, norm: _Norm) -> tuple[_Product | None, float, str]:
        """The layer that a norm is folded into and its ε, or why there is none."""
        mean, var = norm.of("mean"), norm.of("var")
        if mean not in self.centered or var not in self.eps:
            return (
                None,
                0.0,
                "it does not use running statistics of the last axis in this call",
            )
        product = self.centered[mean]
        if product is None:
            return None, 0.0, "what it normalizes is no output of a dense layer or a convolution"
        if product.uses > 1:
            return None, 0.0, "others read what it normalizes"
        shared = [p for p in (product.kernel, product.bias, mean) if p and self.uses[p] > 1]
        if shared:
            return None, 0.0, f"`{'/'.join(map(str, shared[0]))}` is used more than once"
        return product, self.eps[var], ""

    def constant(self, array: Any) -> _Value:
        scalar = np.ndim(array) == 0 and np.issubdtype(np.asarray(array).dtype, np.floating)
        return _Value(number=float(array) if scalar else None, shape=np.shape(array))

    def equation(self, site: Site, operands: list[_Value]) -> Sequence[_Value]:
        results = [_Value(shape=array_type(v)[0]) for v in site.eqn.outvars]
        first, out = (values[0] if values else _Value() for values in (operands, results))
        if site.name in _RESHAPES:
            if first.shape[-1:] == out.shape[-1:] and _last_stays_last(site):
                return [_Value(first.path, first.product, first.number, out.shape)]
        elif site.name in ("dot_general", "conv_general_dilated") and _features_last(site):
            kernel = operands[1].path
            if kernel is not None and operands[1].shape == site.shapes[1]:
                self.read(operands)
                return [_Value(product=_Product(kernel), shape=out.shape)]
        elif site.name == "sub" and (mean := operands[1].path) is not None:
            self.centered[mean] = first.product
        elif site.name == "add":
            second, product = operands[1], first.product
            if first.path is not None and second.number is not None:
                self.eps[first.path] = second.number
            if product is not None and product.bias is None and self._has_features(second, out):
                self.read([second])
                product.bias = second.path
                return [_Value(product=product, shape=out.shape)]
        self.read(operands)
        return results

    def _has_features(self, value: _Value, output: _Value) -> bool:
        """Whether `value` is a variable with a number for each feature of an output."""
        return value.path is not None and self.shapes[value.path][-1:] == output.shape[-1:]

    def read(self, operands: Iterable[_Value]) -> None:
        """Counts values that an equation reads."""
        for value in operands:
            if value.path is not None:
                self.uses[value.path] = self.uses.get(value.path, 0) + 1
            if value.product is not None:
                value.product.uses += 1


def _last_stays_last(site: Site) -> bool:
    """Whether the last axis of the result, as long as that of the operand, is that one."""
    axes = site.params.get("broadcast_dimensions", (-1,))
    return bool(axes) and axes[-1] in (-1, len(array_type(site.eqn.outvars[0])[0]) - 1)


def _features_last(site: Site) -> bool:
    """Whether the last axis of a kernel is the last one of the output."""
    if site.name == "conv_general_dilated":
        numbers, axes = site.params["dimension_numbers"], len(site.shapes[1])
        return numbers.rhs_spec[0] == numbers.out_spec[1] == axes - 1
    (_, contracted), (_, batch) = site.params["dimension_numbers"]
    return len(site.shapes[1]) - 1 not in (*contracted, *batch)
