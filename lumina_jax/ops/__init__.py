"""The ops of Lumina-JAX as JAX primitives, one file each."""

from . import causal_softmax as causal_softmax
from . import causal_softmax_grad as causal_softmax_grad
from . import complex_matmul as complex_matmul
from . import complex_optical_matmul as complex_optical_matmul
from . import complex_optical_matmul_fwd as complex_optical_matmul_fwd
from . import complex_optical_matmul_grad as complex_optical_matmul_grad
from . import dequantize as dequantize
from . import optical_attention as optical_attention
from . import optical_attention_grad as optical_attention_grad
from . import optical_conv as optical_conv
from . import optical_conv_fwd as optical_conv_fwd
from . import optical_conv_grad as optical_conv_grad
from . import optical_matmul as optical_matmul
from . import optical_matmul_fwd as optical_matmul_fwd
from . import optical_matmul_grad as optical_matmul_grad
from . import optical_noise as optical_noise
from . import quantize as quantize
from ._op import OPS as OPS
from ._op import Factors as Factors
from ._op import Matmul as Matmul
from ._op import OpDef as OpDef
