"""Tests of operators of the C ABI, those of Lumina or of any library with the names of infiniop.

```python
from lumina_runtime.testing import LIBINFINIOP, TestTensor, check_error, get_args, test_operator
```

The names are those of the test scripts of infiniop, which run with `lumina_runtime.testing` in
place of `libinfiniop`. NumPy is enough; where PyTorch is installed, tensors are torch tensors, too.
`LIBINFINIOP` is the library, see `open_lib`; it is opened when it is first imported or used.
"""

from typing import Any

from ._compare import debug, debug_all, get_tolerance, print_discrepancy
from ._datatypes import (
    InfiniDtype,
    InfiniDtypeBits,
    InfiniDtypeNames,
    to_numpy_dtype,
    to_torch_dtype,
)
from ._devices import InfiniDeviceEnum, InfiniDeviceNames, infini_device_map, torch_device_map
from ._library import (
    INFINI_ROOT,
    InfiniError,
    InfiniLib,
    InfiniStatus,
    check_error,
    open_lib,
    shared_lib,
)
from ._register import OpRegister
from ._run import (
    filter_tensor_dtypes_by_device,
    get_args,
    get_sync_func,
    get_test_devices,
    profile_operation,
    synchronize_device,
    test_operator,
    timed_op,
)
from ._structs import (
    Handle,
    OpDescriptor,
    TensorDescriptor,
    infiniopHandle_t,
    infiniopOperatorDescriptor_t,
    infiniopTensorDescriptor_t,
)
from ._tensors import (
    CTensor,
    TestTensor,
    TestWorkspace,
    create_handle,
    destroy_handle,
    rearrange_tensor,
    set_seed,
)

LIBINFINIOP: InfiniLib

__all__ = [
    "INFINI_ROOT",
    "LIBINFINIOP",
    "CTensor",
    "Handle",
    "InfiniDeviceEnum",
    "InfiniDeviceNames",
    "InfiniDtype",
    "InfiniDtypeBits",
    "InfiniDtypeNames",
    "InfiniError",
    "InfiniLib",
    "InfiniStatus",
    "OpDescriptor",
    "OpRegister",
    "TensorDescriptor",
    "TestTensor",
    "TestWorkspace",
    "check_error",
    "create_handle",
    "debug",
    "debug_all",
    "destroy_handle",
    "filter_tensor_dtypes_by_device",
    "get_args",
    "get_sync_func",
    "get_test_devices",
    "get_tolerance",
    "infini_device_map",
    "infiniopHandle_t",
    "infiniopOperatorDescriptor_t",
    "infiniopTensorDescriptor_t",
    "open_lib",
    "print_discrepancy",
    "profile_operation",
    "rearrange_tensor",
    "set_seed",
    "synchronize_device",
    "test_operator",
    "timed_op",
    "to_numpy_dtype",
    "to_torch_dtype",
    "torch_device_map",
]


def __getattr__(name: str) -> Any:
    if name == "LIBINFINIOP":
        return shared_lib()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
