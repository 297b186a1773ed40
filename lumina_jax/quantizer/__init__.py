"""Hardware-aware quantization: how many bits a device is worth, and which levels they make.

`WeightQuantizer` calibrates one tensor, `allocate_bits` distributes bits over the layers of a
model. The choice of levels and bits runs on the host; `quantize` and `dequantize` run anywhere.
"""

from ._allocate import BitAllocation, LayerSensitivity
from ._feedback import error_feedback
from ._params import QuantizerParams, dequantize, quantize
from ._range import DynamicRangeEstimator
from ._rule import bits_for_power, bits_for_snr
from ._sensitivity import allocate_bits, measure_sensitivity
from ._weights import WeightQuantizer

__all__ = [
    "BitAllocation",
    "DynamicRangeEstimator",
    "LayerSensitivity",
    "QuantizerParams",
    "WeightQuantizer",
    "allocate_bits",
    "bits_for_power",
    "bits_for_snr",
    "dequantize",
    "error_feedback",
    "measure_sensitivity",
    "quantize",
]
