"""Test scripts of operators: their command line, the loop over cases, and timing."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ._datatypes import InfiniDtype
from ._devices import InfiniDeviceEnum, InfiniDeviceNames, torch_device_map
from ._library import check_error, shared_lib
from ._tensors import create_handle, destroy_handle, set_seed

_WITHOUT_BF16 = {
    InfiniDeviceEnum.MOORE,
    InfiniDeviceEnum.KUNLUN,
    InfiniDeviceEnum.HYGON,
    InfiniDeviceEnum.QY,
}


def get_args() -> argparse.Namespace:
    """The command line of a test script: `--cpu` and the other devices, `--debug`, `--profile`,
    `--num_prerun`, `--num_iterations`, and `--seed`, which is set at once.
    """  # noqa: D205
    parser = argparse.ArgumentParser(description="Tests an operator.")
    parser.add_argument("--profile", action="store_true", help="measure the time of the calls")
    parser.add_argument(
        "--num_prerun", type=_count, default=10, help="calls before the measured ones (10)"
    )
    parser.add_argument("--num_iterations", type=_count, default=1000, help="measured calls (1000)")
    parser.add_argument("--debug", action="store_true", help="report each element that differs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random tensors (0)")
    for device, name in InfiniDeviceNames.items():
        parser.add_argument(
            f"--{device.name.lower()}", action="store_true", help=f"test on {name} devices"
        )
    args = parser.parse_args()
    set_seed(args.seed)
    return args


def get_test_devices(args: argparse.Namespace) -> list[InfiniDeviceEnum]:
    """The devices that the command line names; the CPU where it names none."""
    devices = [device for device in InfiniDeviceEnum if getattr(args, device.name.lower(), False)]
    if InfiniDeviceEnum.ASCEND in devices:
        # Its backend has no device until one is chosen.
        _backend(torch_device_map[InfiniDeviceEnum.ASCEND]).set_device(0)
    return devices or [InfiniDeviceEnum.CPU]


def filter_tensor_dtypes_by_device(device: int, tensor_dtypes: Iterable[Any]) -> list[Any]:
    """The element types that tests of the device run with: some devices have no BF16."""
    without = device in _WITHOUT_BF16
    return [dtype for dtype in tensor_dtypes if not (without and dtype == InfiniDtype.BF16)]


def get_sync_func(device: int) -> Callable[[], None] | None:
    """What waits for the device to finish in PyTorch; None for the CPU, which has then finished.

    Raises:
      RuntimeError: PyTorch is not built for the device.
    """
    # PyTorch waits for Cambricon devices by itself.
    if device in (InfiniDeviceEnum.CPU, InfiniDeviceEnum.CAMBRICON):
        return None
    return _backend(torch_device_map[InfiniDeviceEnum(device)]).synchronize


def synchronize_device(torch_device: str | int) -> None:
    """Waits for a device, named as in PyTorch or by its number."""
    if not isinstance(torch_device, str):
        torch_device = torch_device_map[InfiniDeviceEnum(torch_device)]
    if torch_device != "cpu":
        _backend(torch_device).synchronize()


def test_operator(
    device: int,
    test_func: Callable[..., object],
    test_cases: Iterable[Sequence[Any]],
    tensor_dtypes: Iterable[Any],
) -> None:
    """Calls `test_func(handle, device, *case, dtype, sync)` for each case and type on a device."""
    check_error(shared_lib().infinirtSetDevice(device, 0))
    handle = create_handle()
    dtypes = filter_tensor_dtypes_by_device(device, tensor_dtypes)
    sync = get_sync_func(device)
    try:
        for case in test_cases:
            for dtype in dtypes:
                test_func(handle, device, *case, dtype, sync)
    finally:
        destroy_handle(handle)


# No test, whatever its name tells pytest.
test_operator.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


def timed_op(func: Callable[[], object], num_iterations: int, device: str | int) -> float:
    """Seconds that a call takes, on average, with those of the device in it.

    Raises:
      ValueError: `num_iterations` is not positive.
    """
    if num_iterations < 1:
        raise ValueError(f"timed_op: `num_iterations` must be positive, got {num_iterations}")
    synchronize_device(device)
    begin = time.perf_counter()
    for _ in range(num_iterations):
        func()
    synchronize_device(device)
    return (time.perf_counter() - begin) / num_iterations


def profile_operation(
    desc: str,
    func: Callable[[], object],
    torch_device: str | int,
    NUM_PRERUN: int,
    NUM_ITERATIONS: int,
) -> float:
    """Prints the time of a call, after some that are not measured, and returns it in seconds."""
    for _ in range(NUM_PRERUN):
        func()
    elapsed = timed_op(func, NUM_ITERATIONS, torch_device)
    print(f" {desc} time: {elapsed * 1e3:.6f} ms")
    return elapsed


def _backend(name: str) -> Any:
    import torch  # pyright: ignore[reportMissingImports]

    found = getattr(torch, name, None)
    if not hasattr(found, "synchronize"):
        raise RuntimeError(f"PyTorch is not built for devices of the type `{name}`")
    return found


def _count(text: str) -> int:
    return max(0, int(text))
