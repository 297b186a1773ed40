"""`export`: from a function and example arguments to a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import jax

from lumina_jax import _progress
from lumina_jax._arguments import instance, integer

from ._arguments import BatchAxes
from ._by_slot import BySlot
from ._calibration import UncalibratedRangesWarning
from ._callables import is_exportable
from ._converted import with_codes
from ._entry import Options, arrays, entry
from ._errors import ExportError
from ._fuse import fused
from ._lower import Shared
from ._model import Model
from ._settle import settled
from ._storage import Storage, Weights
from ._vectors import test_vectors

if TYPE_CHECKING:
    from lumina_jax import EnergyAssumptions, HardwareProfile
    from lumina_jax.hardware.compensation import Mode
    from lumina_jax.planner import Plan

_BAR_S = 1.0
"""Seconds that a part of an export takes before there is a bar of it."""

Functions = Callable[..., Any] | jax.export.Exported | Mapping[str, tuple[Any, ...]]


def export(
    fn: Functions,
    *example_args: Any,
    params: Any = None,
    state: Any = None,
    batch: str | None = None,
    batch_axes: BatchAxes = 0,
    rtol: float | None = None,
    atol: float | None = None,
    allow_uncalibrated: bool = False,
    while_limit: int = 1_000_000,
    fuse: bool = True,
    weights: Weights | None = None,
    profile: HardwareProfile | str | None = None,
    plan: Plan | None = None,
    compensation: Mode | None = None,
    assumptions: EnergyAssumptions | None = None,
    by_slot: bool = False,
    progress: bool | None = None,
) -> Model:
    """The computation of `fn` as a model that `save`s to one `.lmn` file.

    ```python
    model = exporter.export(net.apply, x, params=variables, batch="batch")
    model.save("net.lmn")
    ```

    What `fn` closes over becomes constants of the file, and what depends on constants alone is
    computed now; a weight in another shape or order keeps its name. Options of the network are
    bound beforehand, by functools.partial or a lambda:
    `export(lambda x: net.apply(variables, x, deterministic=True), x, batch="batch")`.

    An argument that is a PRNG key, `jax.random.key(0)` or its raw u32[2] form, becomes the noise
    seed of the model: `lumina run --noise-seed 7` computes what `fn` does with
    `jax.random.key(7)`.

    Several functions are entry points of one file, which share weights and state:

    ```python
    model = exporter.export(
        {"prefill": (prefill, prompt), "decode": (decode, token)}, params=variables, state=cache
    )
    session = model.session()
    logits = session.run("prefill", prompt)
    ```

    Args:
      fn: a pure function of arrays, or of pytrees of arrays, such as the inference function of a
        network; or a program of `jax.export`, whose arguments are then known. Or such functions by
        the names of their entry points, each in a tuple with its example arguments; the first one
        is what runs where none is named.
      example_args: arguments for `fn`. Shapes and types are taken from them, and the outputs that
        JAX computes for them go into the file as test vectors; where the last bit decides about
        a code of a converter, as docs/export.md explains, those of the runtime, once it agrees with
        JAX in every piece of the graph. A `jax.ShapeDtypeStruct` stands for an array with normal
        deviates; its extents may be symbols of `jax.export.symbolic_shape`.
      params: where given, `fn(params, *example_args)` is exported, with the arrays in `params` as
        constants that are named by their path: "params['Dense_0']['kernel']". Functions and Python
        numbers in it are bound as they are.
      state: where given, a pytree of arrays that a session keeps from one run to the next, such as
        the cache of a transformer. What is exported is then `fn(state, *example_args)`, or
        `fn(params, state, *example_args)`, which returns a tuple of the outputs and the next
        state. A new session begins with these arrays; a `jax.ShapeDtypeStruct` stands for zeros.
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
      fuse: puts nodes together that one op of the runtime computes at once: batch norm into the
        convolution before it, softmax, layer norm, attention, bias and activation of a product.
        False leaves the nodes as JAX has them. `lumina inspect` says what became what.
      weights: how weights are stored, which are floats of two axes or more: "float32", "bfloat16"
        or "float16" for all of them; or by their paths: such a name; bits from 1 to 8, for good
        levels of each output, or `(bits, group)`, for those of each `group` of its inputs; a
        `WeightQuantizer`, or one with bits, `(quantizer, bits)`; `QuantizerParams`, or what it made
        of the weight, `(codes, params)`. A key is a path as `weights` of the model has it, or a
        part of one, "Dense_0" or "decoder/*/kernel", with `*` and `?` for any letters; of several
        the last one counts. Or what `allocate_bits` returns. The model is then that of the weights
        as they are stored, and so are its test vectors. By default those that only enter the
        converters of optical ops are stored as the codes that these make of them, which changes
        no bit of an output, and others as they are; "float32" stores all as they are.
      profile: where given, the photonic processor that the file is for, or the name of a preset:
        the file then says how it runs each optical node, for `lumina schedule`. No number changes.
      plan: the wavelengths of the inputs of each layer, by `WDMPlanner`; None leaves them in order.
        Layers are known by their module, by the path of their weights, or by their number.
      compensation: the mode by which the weights were compensated for the crosstalk of `profile`,
        as `compensate` was told; None where they were not.
      assumptions: what the profile does not say, as in `energy_report`.
      by_slot: puts the inputs of each layer of `plan` in the order of their slots: weights are
        stored so, and what comes in is put so when the model runs. The test vectors are those of
        the sums in that order, which for products of codes are the same to the bit.
      progress: whether to show bars of what takes longer than a second: weights that are stored as
        fewer bits, and test vectors; None: where someone watches.

    Raises:
      ExportError: an argument is no array, or `fn` has operations with no counterpart in the file;
        the message lists all of them with their source lines. Or `weights` has a key that means
        no weight, or a form that a weight cannot have. Or `plan` has a layer that the model has
        not, or does not fit the profile.

    Warns:
      UncalibratedRangesWarning: ranges of layers are not calibrated; the message lists the layers.
      ScheduleWarning: `plan` has no layer for a product, or other crosstalk than the layers.
    """
    others = {"plan": plan, "compensation": compensation, "assumptions": assumptions}
    integer("export", "while_limit", while_limit, at_least=0, at_most=2**31)
    storage = Storage(weights)
    given, initial = arrays("params", params), arrays("state", state)
    instance("export", "progress", progress, bool | None, "a bool or None")
    order = _order(plan) if by_slot else None
    bar = partial(_progress.bar, progress=progress, delay=_BAR_S)
    options = Options(
        given, initial, params, state, batch, batch_axes, while_limit, storage, order, bar
    )
    shared: Shared = {}
    entries = []
    for name, (function, arguments) in _functions(fn, example_args).items():
        made = entry(name, function, arguments, options, shared)
        entries.append(made)
        if not allow_uncalibrated and made.uncalibrated:
            warning = UncalibratedRangesWarning.of(made.title, made.uncalibrated)
            warnings.warn(warning, stacklevel=2)
    storage.check()
    tests = test_vectors(entries, list(initial.values()), atol, rtol, bar)
    graphs = [made.graph for made in entries]
    if fuse:
        graphs = [fused(graph, shared) for graph in graphs]
    if not storage.keeps_all:
        graphs = with_codes(graphs, shared, storage.kept, bar)
    device = None
    if profile is not None:
        from ._on_device import on_device  # which most exports do without

        graphs, device = on_device(graphs, profile, plan, compensation, assumptions, order)
    elif named := [name for name, value in others.items() if value is not None]:
        raise ExportError(
            f"export: `{named[0]}` is given without a `profile`, the device it is for"
        )
    model = Model(tuple(graphs), tests, _producer(), device)
    return settled(model, entries, list(initial.values()), atol, bar)


def _order(plan: Plan | None) -> BySlot:
    if plan is None:
        raise ExportError("export: `by_slot` is given without a `plan`, which has the slots")
    from lumina_jax.planner import Plan

    instance("export", "plan", plan, Plan, "a Plan of WDMPlanner or None")
    return BySlot(plan)


def _functions(
    fn: Functions, example_args: Sequence[Any]
) -> Mapping[str, tuple[Any, Sequence[Any]]]:
    """Function and example arguments of each entry point by its name."""
    if not isinstance(fn, Mapping):
        return {"": (fn, example_args)}
    if example_args:
        raise ExportError(
            "`fn` names several functions, so that each has example arguments of its own: "
            "{'prefill': (prefill, tokens), 'decode': (decode, token)}"
        )
    functions = {}
    for name, item in fn.items():
        if not isinstance(name, str) or not name:
            raise ExportError(f"`fn` has the key {name!r}, expected the name of an entry point")
        is_function = isinstance(item, tuple) and item and is_exportable(item[0])
        if not is_function:
            raise ExportError(
                f"`fn` has {item!r} for `{name}`, expected a tuple of a function and its example "
                "arguments"
            )
        functions[name] = (item[0], item[1:])
    if not functions:
        raise ExportError("`fn` is empty, expected at least one function")
    return functions


def _producer() -> str:
    try:
        return f"lumina-jax {version('lumina-jax')}"
    except PackageNotFoundError:  # run from a checkout
        return "lumina-jax"
