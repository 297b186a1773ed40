"""Argument types of the operators of the C ABI, without which ctypes would cut pointers short."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import POINTER, c_bool, c_double, c_float, c_int, c_int64, c_size_t, c_void_p
from typing import Any, ClassVar, TypeVar

from ._structs import (
    infiniopHandle_t,
    infiniopOperatorDescriptor_t,
    infiniopTensorDescriptor_t,
)

Declaration = TypeVar("Declaration", bound=Callable[[Any], object])


class OpRegister:
    """What is declared of a library once it is opened.

    ```python
    @OpRegister.operator
    def my_operator(lib):
        lib.infiniopMyOperator.argtypes = [...]
    ```
    """

    registry: ClassVar[list[Callable[[Any], object]]] = []

    @classmethod
    def operator(cls, op: Declaration) -> Declaration:
        """Registers a function that declares the argument types of an operator of a library."""
        cls.registry.append(op)
        return op

    @classmethod
    def register_lib(cls, lib: Any) -> None:
        """Declares on `lib` all that is registered."""
        for op in cls.registry:
            op(lib)


_TYPES = {
    "t": infiniopTensorDescriptor_t,
    "p": c_void_p,
    "P": POINTER(c_void_p),
    "f": c_float,
    "d": c_double,
    "i": c_int,
    "l": c_int64,
    "n": c_size_t,
    "b": c_bool,
}

# By the letters above: what an operator is created of after handle and descriptor, what a call
# takes between workspace and stream, and which operators have these.
_OPERATORS = (
    ("t", "pppni", "Topksoftmax"),
    ("tt", "pp", "Asum Atanh BlasAmax BlasAmin BlasCopy CausalSoftmax Erf Erfc Erfinv Gelu"),
    ("tt", "pp", "GeluTanh HardSwish Log10 Log1p Nrm2 Ones QuickGelu Rearrange Reciprocal Relu"),
    ("tt", "pp", "Scal Sigmoid Silu SiluAndMul Swap Tanh Zeros"),
    ("tt", "ppffif", "RandomSample"),
    ("tt", "ppppfn", "Topkrouter"),
    ("tti", "pp", "LogSoftmax MatrixPower PixelShuffle Softmax"),
    ("ttff", "pp", "HardTanh Softplus"),
    ("ttiif", "pp", "LPNorm"),
    ("ttlb", "pp", "AwqMarlinRepack"),
    ("ttldd", "pp", "Histc"),
    ("ttnnn", "pp", "AvgPool1d"),
    ("ttpnb", "pppnb", "Sum"),
    ("ttppp", "pp", "AvgPool3d"),
    ("ttt", "ppp", "Add Axpy BlasDot ComplexMatmul CrossEntropy Dot Embedding Equal Mul"),
    ("ttt", "ppp", "Mxfp4Dequantize Rotm Sub SwiGLU"),
    ("ttt", "pppff", "Gemm"),
    ("tttd", "ppp", "Cdist"),
    ("tttf", "ppp", "RMSNorm"),
    ("tttlb", "ppp", "GptqMarlinRepack"),
    ("tttnnbb", "pppnnbb", "TopK"),
    ("tttt", "ppp", "DequantizeAWQ"),
    ("tttt", "pppb", "PerTensorQuantI8"),
    ("tttt", "pppp", "Clip PerChannelQuantI8 PerTensorDequantI8 Rot Rotg"),
    ("ttttf", "pppp", "Addcmul"),
    ("ttttnn", "ppppPPP", "DeepseekMoe"),
    ("ttttpppn", "pppp", "Conv"),
    ("ttttt", "ppppp", "DequantizeGPTQ KVCaching PagedCaching Rotmg"),
    ("ttttt", "pppppll", "GptqQyblasGemm"),
    ("tttttf", "ppppp", "AddRMSNorm"),
    ("ttttti", "ppppp", "BCEWithLogits RoPE"),
    ("tttttt", "pppppp", "I8Gemm"),
    ("ttttttf", "pppppp", "FusedFFN LayerNorm"),
    ("ttttttff", "pppppp", "FusedGatedDeltaNetGating"),
    ("ttttttii", "pppppp", "NsaCompressPagedCache"),
    ("ttttttn", "pppppp", "Attention"),
    ("ttttttpf", "ppppppp", "PagedAttention"),
    ("ttttttppi", "pppppppp", "FusedMoe"),
    ("ttttttttf", "pppppppp", "PagedAttentionPrefill"),
    ("tttttttt", "pppppppplbbbb", "GptqMarlinGemm"),
    ("tttttttiiiiib", "ppppppp", "MRoPE"),
    ("tttttttttfiii", "ppppppppp", "NsaPagedAttention"),
    ("tttttttttiiin", "ppppppppp", "OpticalMatmul"),
    ("tttttttttiiinpppn", "ppppppppp", "OpticalConv"),
    ("tttttttttt", "pppppppppplbbbb", "AwqMarlinGemm"),
    ("ttttttttttttiif", "pppppppppppp", "CausalAttention"),
    ("ttptttttppb", "pppppppppp", "RecurrentGatedDeltaRule"),
    ("ttptttttpppbn", "ppppppppppp", "ChunkGatedDeltaRule"),
)
_WITHOUT_WORKSPACE = {"Embedding", "Rearrange"}


@OpRegister.operator
def _operators(lib: Any) -> None:
    handle, descriptor = infiniopHandle_t, infiniopOperatorDescriptor_t
    for created, called, names in _OPERATORS:
        for name in names.split():
            room = "" if name in _WITHOUT_WORKSPACE else "pn"
            declare(
                lib,
                {
                    f"infiniopCreate{name}Descriptor": [handle, POINTER(descriptor), *_of(created)],
                    f"infiniopGet{name}WorkspaceSize": [descriptor, POINTER(c_size_t)],
                    f"infiniop{name}": [descriptor, *_of(room + called + "p")],
                    f"infiniopDestroy{name}Descriptor": [descriptor],
                },
            )
    # A second call of one operator, whose weights are told by addresses in memory of the device.
    declare(lib, {"infiniopDeepseekMoeWithDevicePtrs": [descriptor, *_of("pnpppppppp")]})


@OpRegister.operator
def _handles_and_tensors(lib: Any) -> None:
    handle, tensor = infiniopHandle_t, infiniopTensorDescriptor_t
    sizes, strides, number = POINTER(c_size_t), POINTER(c_int64), POINTER(c_int)
    declare(
        lib,
        {
            "infiniopCreateHandle": [POINTER(handle)],
            "infiniopDestroyHandle": [handle],
            "infiniopCreateTensorDescriptor": [POINTER(tensor), c_size_t, sizes, strides, c_int],
            "infiniopDestroyTensorDescriptor": [tensor],
            "infiniopGetDescriptorDeviceType": [infiniopOperatorDescriptor_t, number],
            "infiniopGetDescriptorDeviceId": [infiniopOperatorDescriptor_t, number],
            "infinirtInit": [],
            "infinirtSetDevice": [c_int, c_int],
            "infinirtGetDevice": [number, number],
            "infinirtGetDeviceCount": [c_int, number],
            "infinirtDeviceSynchronize": [],
            "infinirtStreamCreate": [POINTER(c_void_p)],
            "infinirtStreamDestroy": [c_void_p],
            "infinirtStreamSynchronize": [c_void_p],
        },
    )


def declare(lib: Any, functions: dict[str, list[Any]]) -> None:
    """Gives the functions of these names their argument types, where `lib` has them."""
    for name, arguments in functions.items():
        function = getattr(lib, name, None)
        if function is not None:
            function.argtypes, function.restype = arguments, c_int


def _of(letters: str) -> list[Any]:
    return [_TYPES[letter] for letter in letters]
