"""What handles and descriptors of the C ABI point to."""

from ctypes import POINTER, Structure, c_int


class TensorDescriptor(Structure):
    """Known to the library alone."""


class Handle(Structure):
    """A device that operators are made for."""

    _fields_ = (("device", c_int), ("device_id", c_int))


class OpDescriptor(Structure):
    """An operator; all begin with the device that they run on."""

    _fields_ = (("device", c_int), ("device_id", c_int))


# The names are those of the C header.
infiniopTensorDescriptor_t = POINTER(TensorDescriptor)  # noqa: N816
infiniopHandle_t = POINTER(Handle)  # noqa: N816
infiniopOperatorDescriptor_t = POINTER(OpDescriptor)  # noqa: N816
