"""Columns of numbers as the page reads them: little-endian typed arrays in base64.

Twenty thousand points as JSON numbers would be five times as long, and slow to parse.
"""

from __future__ import annotations

from base64 import b64encode

import numpy as np
import numpy.typing as npt

TYPES = {"u1": "Uint8Array", "u2": "Uint16Array", "u4": "Uint32Array", "f8": "Float64Array"}
"""Their names in JavaScript."""


def packed(values: npt.ArrayLike, kind: str) -> dict[str, str]:
    """An array as `{"type": its name in JavaScript, "data": base64}`; shapes are flattened."""
    array = np.ascontiguousarray(values, dtype=np.dtype(f"<{kind}"))
    return {"type": TYPES[kind], "data": b64encode(array.tobytes()).decode("ascii")}
