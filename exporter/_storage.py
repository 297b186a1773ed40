"""How weights are stored: `export(..., weights=)`.

A weight that is stored with fewer bits is another one: the model, its test vectors, too, is that of
the weight that the file has.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from lumina_jax.quantizer import BitAllocation, QuantizerParams, WeightQuantizer

from ._codes import BITS
from ._errors import ExportError, quoted
from ._levels import Levels, of_columns, of_params
from ._program import Constant, Equation, Variable

Form: TypeAlias = (
    str
    | int
    | tuple[int, int]
    | WeightQuantizer
    | tuple[WeightQuantizer, int]
    | QuantizerParams
    | tuple[Any, QuantizerParams]
)
Weights: TypeAlias = str | BitAllocation | Mapping[str, Form]

_FLOATS = ("float32", "bfloat16", "float16")
_EXPECTED = (
    'expected "float32", "bfloat16", "float16", bits from 1 to 8, (bits, weights of a group), '
    "a WeightQuantizer, (WeightQuantizer, bits), QuantizerParams or (codes, QuantizerParams)"
)
_MOST_NAMES = 3


@dataclass(frozen=True, eq=False)
class Stored:
    """A weight as the file has it."""

    array: jax.Array
    """What it is then, of its type."""
    equations: Callable[[Variable], list[Equation]]
    """What makes it of constants, as this variable."""


class Storage:
    """What `weights` says of each weight, and the weights as it has them."""

    def __init__(self, weights: Weights | None) -> None:
        self.keeps_all = weights == "float32"
        """Whether those that only enter converters are no codes either."""
        self.kept: set[str] = set()
        """Weights that are to stay as they are."""
        self._keys = [_Key(text, form) for text, form in _by_key(weights).items()]
        self._is_exact = isinstance(weights, BitAllocation)
        self._names: dict[str, bool] = {}
        self._forms: dict[str, Form | None] = {}
        self._left: dict[str, bool] = {}
        self._stored: dict[tuple[str, int], tuple[Any, Stored]] = {}

    def see(self, arrays: Mapping[str, Any]) -> None:
        """Decides on the weights of these names."""
        for name, array in arrays.items():
            if name not in self._names:
                self._names[name] = _is_weight(array)
                self._forms[name] = None
        for key in self._keys:
            for name in self._chosen(key):
                self._forms[name] = key.form
                if key.form == "float32":
                    self.kept.add(name)
                else:
                    self.kept.discard(name)

    def _chosen(self, key: _Key) -> list[str]:
        """The weights that the key means."""
        found = {name: key.place(name) for name, is_weight in self._names.items() if is_weight}
        places = {name: place for name, place in found.items() if place is not None}
        if self._is_exact:  # names of layers are paths below the collection
            nearest = min(places.values(), default=0)
            return [name for name, place in places.items() if place == nearest]
        return list(places)

    def changes(self, name: str) -> bool:
        """Whether the weight of that name is to be stored in another form."""
        return self._forms.get(name) not in (None, "float32")

    def leaves(self, name: str, *, has_product: bool) -> bool:
        """Whether the weight stays as it is after all, as the first use of it decides.

        Of what no product reads, such as a bias of two axes, only keys with its last step speak.
        """
        if name not in self._left:
            last = _parts(name)[-1]
            is_named = any(
                key.parts[-1] == last for key in self._keys if key.place(name) is not None
            )
            self._left[name] = not has_product and not is_named
        return self._left[name]

    def is_narrow(self, name: str) -> bool:
        """Whether that form is a narrow float."""
        return self._forms.get(name) in _FLOATS

    def bits(self, name: str) -> int | None:
        """The bits of its codes, where `weights` says them."""
        match self._forms.get(name):
            case bool():
                return None
            case int(bits) | (int(bits), _) | (WeightQuantizer(), int(bits)):
                return bits
            case QuantizerParams(bits=bits) | (_, QuantizerParams(bits=bits)):
                return bits
        return None

    def stored(self, name: str, array: Any, contracted: tuple[int, ...] | None) -> Stored:
        """The weight in its form; the axes that are summed over count for the first call."""
        key = name, id(array)
        if key not in self._stored:
            form = self._forms[name]
            assert form is not None
            try:
                made = _stored(name, array, form, contracted)
            except (TypeError, ValueError) as fault:
                raise ExportError(f"`weights` cannot store `{name}`: {fault}") from fault
            self._stored[key] = array, made
        return self._stored[key][1]

    def check(self) -> None:
        """Raises ExportError where a key means no weight."""
        for key in self._keys:
            chosen = self._chosen(key)
            if chosen and all(self._left.get(name, False) for name in chosen):
                listed = quoted(chosen[:_MOST_NAMES])
                raise ExportError(
                    f"`weights` has the key `{key.text}`, which means {listed} alone, "
                    "which no product reads; if it is meant, give the last step of its path"
                )
            if chosen:
                continue
            others = [n for n, is_weight in self._names.items() if not is_weight]
            there = [name for name in others if key.place(name) is not None]
            if there:
                listed = quoted(there[:_MOST_NAMES])
                raise ExportError(
                    f"`weights` has the key `{key.text}`, which means {listed} alone, "
                    "expected floats of two axes or more"
                )
            known = [name for name, is_weight in self._names.items() if is_weight]
            near = difflib.get_close_matches(key.text, known, _MOST_NAMES, 0.4) or known
            listed = quoted(near[:_MOST_NAMES]) or "none that has a name"
            raise ExportError(
                f"`weights` has the key `{key.text}`, which means no weight; near are {listed}"
            )


class _Key:
    """A key of `weights`: a path, or a part of one, with `*` and `?` in place of names."""

    def __init__(self, text: str, form: Form) -> None:
        self.text, self.form = text, form
        self.parts = _parts(text)

    def place(self, name: str) -> int | None:
        """How many steps of the path of a weight come before it; None where it is not in there."""
        steps = _parts(name)
        for first in range(len(steps) - len(self.parts) + 1):
            pairs = zip(steps[first:], self.parts, strict=False)
            if all(fnmatchcase(step, part) for step, part in pairs):
                return first
        return None


def _parts(path: str) -> list[str]:
    """The steps of "params['Dense_0']['kernel']", of "Dense_0/kernel" and of "layers[0].kernel"."""
    return [part for part in re.split(r"[\[\]'\"./]+", path) if part]


def _by_key(weights: Weights | None) -> Mapping[str, Form]:
    """The forms by their keys."""
    match weights:
        case None:
            return {}
        case str():
            if weights not in _FLOATS:
                raise ExportError(
                    f'`weights` is {weights!r}, expected "float32", "bfloat16" or "float16", or a '
                    "mapping from paths of weights"
                )
            return {} if weights == "float32" else {"*": weights}
        case BitAllocation():
            weights = dict(weights.bits)
        case Mapping():
            pass
        case _:
            raise ExportError(
                f"`weights` is of type {type(weights).__name__}, expected the name of a type, a "
                "mapping from paths of weights, or what allocate_bits returns"
            )
    for key, form in weights.items():
        if not isinstance(key, str) or not _parts(key):
            raise ExportError(f"`weights` has the key {key!r}, expected the path of a weight")
        _check(key, form)
    return weights


def _check(key: str, form: Any) -> None:
    """Raises ExportError where `form` is none."""
    match form:
        case bool():
            pass
        case str() if form in _FLOATS:
            return
        case int() if form in BITS:
            return
        case (int(bits), int(group)) if bits in BITS and group > 0:
            return
        case WeightQuantizer():
            return
        case (WeightQuantizer(), int(bits)) if bits in BITS:
            return
        case QuantizerParams(bits=bits) | (_, QuantizerParams(bits=bits)) if bits in BITS:
            return
        case QuantizerParams(bits=bits) | (_, QuantizerParams(bits=bits)):
            raise ExportError(
                f"`weights` has {bits} bits for `{key}`, expected at most {BITS[-1]}: what "
                'has more is stored as "float32" or "bfloat16"'
            )
    text = repr(form)
    raise ExportError(
        f"`weights` has {text if len(text) < 60 else type(form).__name__} for `{key}`, {_EXPECTED}"
    )


def _is_weight(array: Any) -> bool:
    """Whether it is a matrix of floats, rather than a bias, a range or an index."""
    is_float = str(array.dtype) in _FLOATS
    return is_float and array.ndim > 1 and array.size > 0


def _stored(name: str, array: Any, form: Form, contracted: tuple[int, ...] | None) -> Stored:
    if isinstance(form, str):
        narrow = jnp.asarray(array).astype(form)
        return Stored(
            narrow.astype(array.dtype), lambda result: [_converted(_constant(narrow, name), result)]
        )
    levels = _levels(jnp.asarray(array, jnp.float32), form, contracted)
    return of_levels(levels, name, contracted, array.dtype)


def of_levels(levels: Levels, name: str, contracted: tuple[int, ...] | None, dtype: Any) -> Stored:
    """The weight of these levels, of which these axes are summed over."""
    codes = levels.codes_for(contracted)
    operands = tuple(
        Constant(part, name if place == 0 else "") for place, part in enumerate(codes.operands)
    )

    def equations(result: Variable) -> list[Equation]:
        is_last = not codes.order and result.dtype == np.float32
        value = result if is_last else Variable(codes.shape, np.dtype(np.float32))
        made = [Equation("dequantize", codes.attrs, operands, (value,), None)]
        if codes.order:
            before = value
            value = result if result.dtype == np.float32 else Variable(result.shape, value.dtype)
            params = {"permutation": codes.order}
            made.append(Equation("transpose", params, (before,), (value,), None))
        if value is not result:
            made.append(_converted(value, result))
        return made

    return Stored(jnp.asarray(codes.weight()).astype(dtype), equations)


def _levels(weight: jax.Array, form: Form, contracted: tuple[int, ...] | None) -> Levels:
    """The levels of a weight f32[...], and which of them its elements are."""
    match form:
        case int(bits):
            return of_columns(weight, bits, None, contracted)
        case (int(bits), int(group)):
            return of_columns(weight, bits, group, contracted)
        case WeightQuantizer():
            params = form.calibrate(weight)
            if params.bits not in BITS:
                raise ValueError(f"its quantizer asks for {params.bits} bits, expected at most 8")
            return of_params(form.quantize(weight, params), params)
        case (WeightQuantizer() as quantizer, int(bits)):
            params = quantizer.calibrate(weight, bits=bits)
            return of_params(quantizer.quantize(weight, params), params)
        case QuantizerParams():
            return of_params(WeightQuantizer().quantize(weight, form), form)
        case (codes, QuantizerParams() as params):
            if np.shape(codes) != weight.shape:
                raise ValueError(f"its codes have shape {np.shape(codes)}, expected {weight.shape}")
            return of_params(codes, params)
    raise AssertionError(form)


def _constant(array: jax.Array, name: str) -> Constant:
    return Constant(np.asarray(array), name)


def _converted(operand: Constant | Variable, result: Variable) -> Equation:
    params = {"new_dtype": np.dtype(result.dtype), "weak_type": False}
    return Equation("convert_element_type", params, (operand,), (result,), None)
