"""`export`: from a function and example arguments to a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import numpy as np

from lumina_jax._arguments import integer

from ._arguments import BatchAxes, arguments, as_jax, traced
from ._calibration import UncalibratedRangesWarning, uncalibrated
from ._callables import function_of, title_of
from ._errors import ExportError, faults_error
from ._graph import Role
from ._lower import lower
from ._model import Model
from ._names import closure_names, path_name, signature_names
from ._program import Constant
from ._tolerance import tolerance
from ._tracing import trace
from ._types import is_key
from ._vectors import test_vectors
from ._walk import walk
from .rules import rule_of


def export(
    fn: Callable[..., Any],
    *example_args: Any,
    params: Any = None,
    batch: str | None = None,
    batch_axes: BatchAxes = 0,
    rtol: float | None = None,
    atol: float | None = None,
    allow_uncalibrated: bool = False,
    while_limit: int = 1_000_000,
) -> Model:
    """The computation of `fn` as a model that `save`s to one `.lmn` file.

    ```python
    model = exporter.export(net.apply, x, params=variables, batch="batch")
    model.save("net.lmn")
    ```

    What `fn` closes over becomes constants of the file, and what depends on constants alone is
    computed now. Options of the network are bound beforehand, by functools.partial or a lambda:
    `export(lambda x: net.apply(variables, x, deterministic=True), x, batch="batch")`.

    An argument that is a PRNG key, `jax.random.key(0)` or its raw u32[2] form, becomes the noise
    seed of the model: `lumina run --noise-seed 7` computes what `fn` does with
    `jax.random.key(7)`.

    Args:
      fn: a pure function of arrays, or of pytrees of arrays, such as the inference function of a
        network.
      example_args: arguments for `fn`. Shapes and types are taken from them, and the outputs that
        JAX computes for them go into the file as test vectors. A `jax.ShapeDtypeStruct` stands
        for an array with normal deviates; its extents may be symbols of
        `jax.export.symbolic_shape`.
      params: where given, `fn(params, *example_args)` is exported, with the arrays in `params` as
        constants that are named by their path: "params['Dense_0']['kernel']".
      batch: name of a symbolic extent: the model then takes batches of any size. By default every
        extent is that of the example.
      batch_axes: the axis that is the batch, for all arguments but scalars and keys; or a sequence
        with one entry per argument, None for an argument without a batch.
      rtol: relative tolerance of the test vectors. By default it follows the longest chain of
        operations that round: 1e-5 for up to 64 of them, and as their square root beyond; bfloat16
        and float16 round more.
      atol: absolute tolerance of the test vectors. By default the relative one times the size of
        the outputs, or of 1 where that is larger.
      allow_uncalibrated: no warning where converters have no calibrated ranges: each batch is then
        converted at its own, so that an output depends on the other rows of its batch.
      while_limit: trips of a `jax.lax.while_loop` at most, up to 2^31; a run that reaches it is an
        error.

    Raises:
      ExportError: an argument is no array, or `fn` has operations with no counterpart in the file;
        the message lists all of them with their source lines.

    Warns:
      UncalibratedRangesWarning: ranges of layers are not calibrated; the message lists the layers.
    """
    fn = function_of(fn)
    title = title_of(fn)
    integer("export", "while_limit", while_limit, at_least=0, at_most=2**31)
    leading = () if params is None else (params,)
    names = signature_names(fn, len(leading) + len(example_args))[len(leading) :]
    found = arguments(names, example_args, batch, batch_axes)
    weights = _weights(params)
    structs = [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in weights.values()]
    structs += traced(found, batch)
    treedef = jax.tree_util.tree_structure((*leading, *example_args))

    def flat(*leaves: Any) -> Any:
        return fn(*jax.tree_util.tree_unflatten(treedef, leaves))

    jaxpr, results = trace(flat, structs, title, batch is not None)
    known = {i: Constant.of(array, name) for i, (name, array) in enumerate(weights.items())}
    program = walk(jaxpr, known, closure_names(fn))
    if not allow_uncalibrated and (layers := uncalibrated(program)):
        warnings.warn(UncalibratedRangesWarning.of(title, layers), stacklevel=2)
    paths = jax.tree_util.tree_flatten_with_path(results)[0]
    result_names = [path_name("output", path) for path, _ in paths]
    for name, (_, result) in zip(result_names, paths, strict=True):
        if is_key(result.dtype):
            raise ExportError(f"`{title}` returns a PRNG key as `{name}`, expected an array")
    graph, faults = lower(program, [a.name for a in found], result_names, rule_of, while_limit)
    if faults:
        raise faults_error(title, faults)
    seeds = [port.name for port in graph.inputs if port.role is Role.NOISE_SEED]
    if len(seeds) > 1:
        raise ExportError(
            f"`{title}` takes {len(seeds)} PRNG keys, {_quoted(seeds)}, expected at most one; "
            "derive them from one key with jax.random.split"
        )
    graph.validate()
    relative = tolerance(graph) if rtol is None else rtol
    tests = test_vectors(flat, list(weights.values()), found, atol, relative, title)
    return Model(graph, tests, _producer())


def _weights(params: Any) -> dict[str, Any]:
    weights = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = path_name("", path)
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            raise ExportError(
                f"`params` holds {leaf!r} of type {type(leaf).__name__} at `{name}`, "
                "expected arrays alone"
            )
        weights[name] = leaf if isinstance(leaf, jax.Array) else as_jax(name, leaf)
    return weights


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _producer() -> str:
    try:
        return f"lumina-jax {version('lumina-jax')}"
    except PackageNotFoundError:  # run from a checkout
        return "lumina-jax"
