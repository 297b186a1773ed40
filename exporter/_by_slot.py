"""The inputs of optical layers in the order of their wavelengths, as a plan has them.

    x · w = x[..., π] · w[π]        π = plan.permutation(layer)

What the sum has first changes, and with it last bits of sums of floats; sums of codes are exact.
Each bus has its own inputs as before, so that arrays of as many inputs convert the same sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import numpy as np

from lumina_jax._jaxpr import ClosedJaxpr, Site, array_type

from ._errors import ExportError, quoted

if TYPE_CHECKING:
    from lumina_jax.planner import Plan

T = TypeVar("T")

_OPS = ("optical_matmul", "optical_matmul_fwd")
_X, _W = 0, 1


class BySlot:
    """Puts the inputs of products in order, of layers that the plan has by their modules."""

    def __init__(self, plan: Plan) -> None:
        names = list(dict.fromkeys(bus.layer for bus in plan.buses))
        self.orders = {name: plan.permutation(name) for name in names}
        self.plan = plan
        self.used: dict[str, None] = {}

    def slots(self, layer: str) -> tuple[int, ...]:
        """The slot of each input of a layer, in the order that the model has without this."""
        buses = (bus for bus in self.plan.buses if bus.layer == layer)
        return tuple(stream.slot for bus in buses for stream in bus.streams)

    def order(self, site: Site) -> np.ndarray | None:
        """The order of the inputs of an equation; None where it is none of the plan."""
        if site.name not in _OPS:
            return None
        scope = site.scope.split("/")
        found = [
            name
            for name in self.orders
            if name == site.scope or name.split("/") == scope[-len(name.split("/")) :]
        ]
        name = site.scope if site.scope in found else next(iter(found), None)
        if name is None:
            return None
        order, inputs = self.orders[name], site.shapes[_X][-1]
        if inputs != len(order):
            raise ExportError(
                f"export: layer {name!r} of `plan` has {len(order)} inputs, but the one in the "
                f"model has {inputs}"
            )
        self._check_arrays(name, site)
        self.used[name] = None
        return order

    def _check_arrays(self, name: str, site: Site) -> None:
        """Raises ExportError where an input would get into another array."""
        rows = int(site.params["array_rows"] or 0)
        places, order = np.arange(len(self.orders[name])), self.orders[name]
        if rows and not np.array_equal(places // rows, order // rows):
            raise ExportError(
                f"export: `plan` moves inputs of {name!r} from one array of {rows} inputs into "
                f"another; plan with a grid of {rows} slots"
            )

    def moved(
        self,
        site: Site,
        operands: Sequence[T],
        run: Callable[[ClosedJaxpr, list[T], Site], list[T]],
    ) -> list[T]:
        """The operands of a product in the order of its plan; `run` runs a jaxpr on operands."""
        order = self.order(site)
        if order is None:
            return list(operands)
        of_w = 1 if site.params["transpose_weight"] else 0
        moved = list(operands)
        for place, axis in ((_X, 1), (_W, of_w)):
            struct = jax.ShapeDtypeStruct(*array_type(site.eqn.invars[place]))
            taken = jax.make_jaxpr(
                lambda v, axis=axis: v.take(order.astype(np.int32), axis=axis, mode="clip")
            )
            (moved[place],) = run(taken(struct), [operands[place]], site)
        return moved

    def after(self) -> Plan:
        """The plan of the model as it is then: inputs are counted by slots."""
        lost = [name for name in self.orders if name not in self.used]
        if lost:
            raise ExportError(
                f"export: `by_slot` is for layers that `plan` has by the names of their modules; "
                f"the model has none for {quoted(lost)}"
            )
        return replace(self.plan, buses=tuple(_renumbered(self.plan)))


def _renumbered(plan: Plan) -> Iterator[Any]:
    layer, first = "", 0
    for bus in plan.buses:
        inputs = {stream.input for stream in bus.streams}
        first = 0 if bus.layer != layer or 0 in inputs else first
        layer = bus.layer
        by_slot = sorted(bus.streams, key=lambda stream: stream.slot)
        yield replace(
            bus,
            streams=tuple(replace(s, input=first + at) for at, s in enumerate(by_slot)),
        )
        first += len(by_slot)
