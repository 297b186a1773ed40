"""Nodes of old op sets as the present one says them: one function for each old op set.

The runtime does the same in `runtime/src/upgrade.rs`.
"""

from __future__ import annotations

from ._graph import Attr


def upgraded(opset: int, op: str, attrs: dict[str, Attr]) -> tuple[str, dict[str, Attr]]:
    """Name and attributes of a node of that op set, which need not be right."""
    attrs = dict(attrs)
    if opset < 2:
        op, attrs = _from_1(op, attrs)
    if opset < 3:
        attrs = _from_2(op, attrs)
    return (op, _from_3(op, attrs)) if opset < 4 else (op, attrs)


def written(opset: int, op: str, attrs: dict[str, Attr]) -> dict[str, Attr]:
    """The attributes of a node as a graph of that op set, which can say what it does, has them."""
    if opset < 4 and op.startswith("optical_matmul"):
        return {name: value for name, value in attrs.items() if name != "array_rows"}
    return attrs


def _from_1(op: str, attrs: dict[str, Attr]) -> tuple[str, dict[str, Attr]]:
    """Op set 1 had the results of training beside the output of `optical_matmul`.

    It called the signal before noise and ADC "linear"; its first files had a bool for it.
    """
    if op == "optical_matmul":
        if "with_linear" in attrs:
            with_linear = attrs.pop("with_linear")
            attrs |= {"residual": "linear" if with_linear else "none", "with_peak": False}
        if attrs.get("residual") == "none" and attrs.get("with_peak") is False:
            del attrs["residual"], attrs["with_peak"]
        elif "residual" in attrs:
            op = "optical_matmul_fwd"
    if op.startswith("optical_matmul") and attrs.get("residual") == "linear":
        attrs["residual"] = "pre_noise"
    return op, attrs


def _from_2(op: str, attrs: dict[str, Attr]) -> dict[str, Attr]:
    """Op set 2 had no peaks of x and w, and gave the ops every full scale."""
    if op == "optical_matmul_fwd":
        attrs |= {"with_x_peak": False, "with_w_peak": False}
    return attrs


def _from_3(op: str, attrs: dict[str, Attr]) -> dict[str, Attr]:
    """Op set 3 had arrays with as many inputs as there are."""
    if op.startswith("optical_matmul"):
        attrs |= {"array_rows": 0}
    return attrs
