"""Devices by their numbers in the C ABI, and what PyTorch calls them."""

from __future__ import annotations

from enum import IntEnum


class InfiniDeviceEnum(IntEnum):
    """Types of devices. The library of Lumina has the first; others may have more."""

    CPU = 0
    NVIDIA = 1
    CAMBRICON = 2
    ASCEND = 3
    METAX = 4
    MOORE = 5
    ILUVATAR = 6
    KUNLUN = 7
    HYGON = 8
    QY = 9
    ALI = 10


# Makers write these names so; the others are written in capitals.
_SPELLED = {"CAMBRICON", "ASCEND", "METAX", "MOORE", "ILUVATAR", "KUNLUN", "HYGON", "ALI"}

InfiniDeviceNames = {
    device: device.name.capitalize() if device.name in _SPELLED else device.name
    for device in InfiniDeviceEnum
}

_OWN_BACKENDS = {
    InfiniDeviceEnum.CPU: "cpu",
    InfiniDeviceEnum.CAMBRICON: "mlu",
    InfiniDeviceEnum.ASCEND: "npu",
    InfiniDeviceEnum.MOORE: "musa",
}

torch_device_map = {device: _OWN_BACKENDS.get(device, "cuda") for device in InfiniDeviceEnum}
"""Name of each device in PyTorch: builds of PyTorch for the remaining makers say `cuda`."""

infini_device_map = {
    name: tuple(device for device, torch in torch_device_map.items() if torch == name)
    for name in dict.fromkeys(torch_device_map.values())
}
"""The way back: the devices that a name in PyTorch may stand for."""
