"""The differentiable functions, one file each, named as the op they call."""
