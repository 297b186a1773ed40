"""The device of a model, and how it runs a product, as protobuf messages and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _lmn_pb2 as pb
from ._device import FIGURES, BusCrosstalk, Device, Order, Product
from ._dim import Dim

_ORDERS: dict[Order, pb.Product.Order] = {
    "inputs first": pb.Product.INPUTS_FIRST,
    "outputs first": pb.Product.OUTPUTS_FIRST,
}
_NAMES: dict[int, Order] = {number: name for name, number in _ORDERS.items()}


def device_fields(device: Device | None) -> dict[str, Any]:
    """The fields of the message Graph that say what the device is; none without one."""
    if device is None:
        return {}
    fields: dict[str, Any] = {
        "device": pb.Device(**{name: getattr(device, name) for name in FIGURES}),
        "wdm": pb.Wdm(wavelengths_nm=device.wavelengths_nm),
    }
    if device.crosstalk is not None:
        matrix = np.array(device.crosstalk.matrix)
        fields["crosstalk"] = pb.Crosstalk(
            size=len(matrix),
            matrix=matrix.reshape(-1).tolist(),
            compensation=device.crosstalk.compensation,
            condition_number=device.crosstalk.condition_number,
        )
    return fields


def device_of(message: pb.Graph) -> Device | None:
    """The device of a file; a ValueError where it says what only the runtime reads."""
    if not message.HasField("device"):
        for field in ("wdm", "crosstalk"):
            if message.HasField(field):
                raise ValueError(f"the graph has a `{field}`, which only the runtime reads")
        return None
    if message.wdm.slot_of_stream:
        raise ValueError("`wdm` has a `slot_of_stream`, which only the runtime reads")
    crosstalk = None
    if message.HasField("crosstalk"):
        size = message.crosstalk.size
        rows = np.array(message.crosstalk.matrix, np.float64).reshape(size, size)
        crosstalk = BusCrosstalk(
            matrix=tuple(map(tuple, rows.tolist())),
            compensation=message.crosstalk.compensation,
            condition_number=message.crosstalk.condition_number,
        )
    return Device(
        **{name: getattr(message.device, name) for name in FIGURES},
        wavelengths_nm=tuple(message.wdm.wavelengths_nm),
        crosstalk=crosstalk,
    )


def execution_of(
    products: tuple[Product, ...], dim: Callable[[Dim], pb.Dim]
) -> pb.Execution | None:
    """The message of these products, whose extents `dim` writes; None where there is none."""
    if not products:
        return None
    return pb.Execution(
        products=[
            pb.Product(
                layer=product.layer,
                inputs=dim(product.inputs),
                outputs=dim(product.outputs),
                tile_rows=product.tile_rows,
                tile_columns=product.tile_columns,
                order=_ORDERS[product.order],
                slot_of_stream=product.slots,
            )
            for product in products
        ]
    )


def products_of(execution: pb.Execution, dim: Callable[[pb.Dim], Dim]) -> tuple[Product, ...]:
    """The products in a message, whose extents `dim` reads."""
    return tuple(
        Product(
            inputs=dim(product.inputs),
            outputs=dim(product.outputs),
            tile_rows=product.tile_rows,
            tile_columns=product.tile_columns,
            order=_NAMES[product.order],
            slots=tuple(product.slot_of_stream),
            layer=product.layer,
        )
        for product in execution.products
    )
