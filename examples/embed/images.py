"""Writes the 450 test images of the digits in a form that C reads without a library.

    python examples/embed/images.py build/demo

writes images.f32, the pixels as little-endian float32 of shape (450, 64), and labels.u8, the digits
as bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import digits

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    _, test = digits.load()
    (folder / "images.f32").write_bytes(test.images.astype("<f4").tobytes())
    (folder / "labels.u8").write_bytes(test.digits.astype("u1").tobytes())
