"""Linen models whose layers of Flax run as optical ones.

A converted model is an instance of a subclass of its own class, of the same name and fields, whose
methods run with an interceptor: where a layer of Flax in it would compute, the optical layer runs
in its place, in the scope of that layer. Names, shapes and initial values of parameters are
therefore those of the model, however it is written: in `setup` or compact methods, with layers
that are shared, lifted or taken as fields.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import flax.linen as nn
import jax.numpy as jnp
from flax.core import freeze
from flax.core.scope import in_filter, union_filters

from .._context import quiet_calls_observe
from ._attention import NAME, LinenAttention, attention_fault, device_fault
from ._linen_layers import DIGITAL, LAYERS, LinenLayer
from ._report import ConversionReport
from ._rules import ConversionRule

M = TypeVar("M", bound=nn.Module)

_FLAG = "lumina_jax.convert"
_numbers = itertools.count()
_NO_RANGES = (
    "no ranges reach it, so each batch is converted at its own; give the lifted module around it "
    'variable_axes={..., "ranges": 0}'
)
_FIXED_RANGES = (
    "the lifted module around it keeps its ranges as they are, so they stay uncalibrated, and each "
    "batch is converted at its own"
)
_ATTENTION = inspect.unwrap(nn.MultiHeadDotProductAttention.__call__)
_RNN = inspect.unwrap(nn.RNN.__call__)
_BY_FUNCTION = {layer.function: layer for layer in LAYERS}


class _Run:
    """One call of a converted model: what it does to calls of the layers in it."""

    def __init__(self, report: ConversionReport, depth: int, *, noisy: bool, follows: bool) -> None:
        self.report = report
        self.depth = depth
        self.noisy = noisy
        self.follows = follows

    def intercept(
        self,
        next_fun: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        """The result of a method of any module in the model."""
        # A model that is converted inside of this one has rules of its own.
        if _running.get() is not self:
            return next_fun(*args, **kwargs)
        module = context.module
        function: Any = getattr(context.orig_method, "func")  # noqa: B009
        path = "/".join(module.path[self.depth :])
        layer = _BY_FUNCTION.get(function)
        if function is _ATTENTION:
            return self._attend(next_fun, args, kwargs, module, path)
        if function is _RNN:
            with _fields_are(module, **_lifting(module)):
                return next_fun(*args, **kwargs)
        if layer is None:
            result = next_fun(*args, **kwargs)
            self._note_digital(module, path, context.method_name)
            return result
        signature = inspect.signature(function)
        x, *rest = list(signature.bind(module, *args, **kwargs).arguments.values())[1:]
        name = type(module).__name__
        reason = layer.reason(module, x, tuple(rest))
        rule = self.report.decide(path, name, layer.optical.__name__, reason)
        if rule is None:
            return next_fun(*args, **kwargs)
        self._note_ranges(module, rule, path)
        with _running_is(None):  # What is inside of an optical layer is its own.
            return self._optical(module, layer, rule, path, x, rest)

    def _attend(
        self,
        next_fun: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        module: Any,
        path: str,
    ) -> Any:
        """The result of an attention layer, whose two products are optical where rules say so."""
        query = args[0] if args else kwargs["inputs_q"]
        dtype = module.dtype or jnp.result_type(query, module.param_dtype)
        fault = attention_fault(module, nn.dot_product_attention, dtype)
        if kwargs.get("sow_weights"):
            fault = fault or "its weights are sown, and no scores are kept"
        rule = self.report.decide(path, type(module).__name__, NAME, fault)
        if rule is not None and (fault := device_fault(rule)):
            self.report.stays(path, type(module).__name__, fault)
        if rule is None or fault:
            return next_fun(*args, **kwargs)
        quiet = self._is_quiet(module, path)
        self._note_ranges(module, rule, path)
        optical = LinenAttention(**rule.options, deterministic=quiet, parent=module.scope.rewound())

        # Flax gives its function what is in its signature.
        @functools.wraps(LinenAttention.__call__.__get__(optical))
        def attention_fn(*signals: Any, **options: Any) -> Any:
            with _running_is(None), quiet_calls_observe():
                return optical(*signals, **options)

        with _fields_are(module, attention_fn=attention_fn):
            return next_fun(*args, **kwargs)

    def _is_quiet(self, module: nn.Module, path: str) -> bool:
        """Whether a call of `module` draws no noise."""
        has_stream = module.has_rng("noise")
        if self.noisy and not has_stream:
            raise ValueError(
                f"convert: no stream `noise` reaches {path!r}, expected one that the lifted module "
                'around it passes on: split_rngs={..., "noise": True}'
            )
        return module.is_initializing() or not has_stream

    def _optical(
        self,
        module: nn.Module,
        layer: LinenLayer,
        rule: ConversionRule,
        path: str,
        x: Any,
        rest: list[Any],
    ) -> Any:
        quiet = self._is_quiet(module, path)
        assert module.scope is not None
        # What a layer of Flax has made in `setup` has its name in the scope.
        optical = layer.layer(module, module.scope.rewound(), rule.options)
        with quiet_calls_observe():
            return getattr(optical, layer.method)(
                jnp.asarray(x, jnp.float32), *rest, deterministic=quiet
            )

    def _note_ranges(self, module: nn.Module, rule: ConversionRule, path: str) -> None:
        """Notes what keeps the ranges of an optical layer from following.

        Not all lifted modules pass them on, and `nn.map_variables` passes them on as constants.
        """
        if not rule.has_ranges or module.is_mutable_collection("ranges"):
            return
        if "ranges" not in module.variables:
            self.report.note(path, _NO_RANGES)
        elif self.follows:
            self.report.note(path, _FIXED_RANGES)

    def _note_digital(self, module: nn.Module, path: str, method: str) -> None:
        """Notes a module that multiplies in a way of its own."""
        why = next((DIGITAL[kind] for kind in type(module).__mro__ if kind in DIGITAL), "")
        if not why and method == "__call__":
            matrices = _own_matrices(module)
            # Flax's own layers that are no products, such as `Embed`, have entries elsewhere.
            if matrices and not isinstance(module, tuple(layer.flax for layer in LAYERS)):
                why = f"multiplies by itself, if it does; parameters {', '.join(matrices)}"
        if why:
            self.report.stays(path, type(module).__name__, why)


_running: ContextVar[_Run | None] = ContextVar("_running", default=None)


@contextlib.contextmanager
def _running_is(run: _Run | None) -> Iterator[None]:
    token = _running.set(run)
    try:
        yield
    finally:
        _running.reset(token)


def convert_linen(module: M, rules: Sequence[ConversionRule]) -> M:
    """`module` with its layers optical where rules say so."""
    if module.scope is not None:
        raise ValueError(
            "convert: `module` is bound to variables, expected a model as its constructor returns "
            "it; the variables of the original fit the converted one"
        )
    kind, report, number = type(module), ConversionReport(rules), next(_numbers)

    @contextlib.contextmanager
    def run(depth: int, *, noisy: bool, follows: bool) -> Iterator[None]:
        call = _Run(report, depth, noisy=noisy, follows=follows)
        with _running_is(call), nn.intercept_methods(call.intercept):
            yield

    def of_variables(name: str) -> Callable[..., Any]:
        """`apply` or `init_with_output`: a `method` of theirs may be any function of the model."""
        base = getattr(kind, name)

        @nn.nowrap
        def method(self: M, first: Any, *args: Any, **kwargs: Any) -> Any:
            rngs = kwargs.get("rngs")
            noisy = isinstance(rngs, Mapping) and "noise" in rngs
            follows = in_filter(kwargs.get("mutable", False), "ranges")
            with run(0, noisy=noisy, follows=follows):
                result = base(self, first, *args, **kwargs)
            if name != "apply":
                report.warn_unmatched(stacklevel=2)
            return result

        method.__doc__ = base.__doc__
        return method

    @nn.nowrap
    def call_wrapped_method(self: M, function: Any, args: Any, kwargs: Any) -> Any:
        """Where the model is a submodule of another, or bound."""
        base = kind._call_wrapped_method
        if self.scope is not None and self.scope.get_flag(_FLAG, None) != number:
            # `nn.jit` has one program for all modules of equal fields and flags.
            self.scope.flags = freeze({**self.scope.flags, _FLAG: number})
        running = _running.get()
        if self.scope is None or (running is not None and running.report is report):
            return base(self, function, args, kwargs)
        follows = self.is_mutable_collection("ranges")
        with run(len(self.path), noisy=self.has_rng("noise"), follows=follows):
            return base(self, function, args, kwargs)

    names = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "_call_wrapped_method": call_wrapped_method,
        "apply": of_variables("apply"),
        "init_with_output": of_variables("init_with_output"),
        "report": report,
    }
    own = type(kind)(kind.__name__, (kind,), names)
    fields = {f: getattr(module, f) for f in module.__dataclass_fields__ if f not in ("parent",)}
    return own(**fields)


@contextlib.contextmanager
def _fields_are(module: nn.Module, **fields: Any) -> Iterator[None]:
    """Other fields of a module, which Flax freezes, during a call of it."""
    before = {name: getattr(module, name) for name in fields}
    try:
        for name, value in fields.items():
            object.__setattr__(module, name, value)
        yield
    finally:
        for name, value in before.items():
            object.__setattr__(module, name, value)


def _lifting(rnn: Any) -> dict[str, Any]:
    """The fields of an RNN by which its steps have noise of their own, and ranges in common."""
    fields: dict[str, Any] = {"split_rngs": {"noise": True, **rnn.split_rngs}}
    if rnn.is_initializing() or not rnn.is_mutable_collection("ranges"):
        fields["variable_broadcast"] = union_filters(rnn.variable_broadcast, "ranges")
    elif "ranges" in rnn.cell.variables:
        # From step to step they follow, which those that a step would make cannot.
        fields["variable_carry"] = union_filters(rnn.variable_carry, "ranges")
    return fields


def _own_matrices(module: nn.Module) -> list[str]:
    """Names of the parameters with two axes or more that a module itself has."""
    params = nn.meta.unbox(module.variables.get("params", {}))
    return [
        name
        for name, value in params.items()
        if not isinstance(value, Mapping) and jnp.ndim(value) >= 2
    ]
