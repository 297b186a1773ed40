"""Noise-aware training: schedules of the noise, weight clipping, distillation, evaluation.

The noise itself is that of the layers, in the forward pass and with gradients through it; this
module holds what a training loop puts around them.
"""

from ._clip import clip_weights
from ._distill import distillation_loss
from ._evaluate import evaluate
from ._evaluation import Evaluation
from ._schedules import Schedule, constant, cosine, curriculum, linear, scale_noise

__all__ = [
    "Evaluation",
    "Schedule",
    "clip_weights",
    "constant",
    "cosine",
    "curriculum",
    "distillation_loss",
    "evaluate",
    "linear",
    "scale_noise",
]
