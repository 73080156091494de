"""Encodes columns of numbers for the page: little-endian typed arrays in base64.

As JSON numbers, twenty thousand points would be five times as long and slow to parse. Does not know
what the columns mean.
"""

from __future__ import annotations

from base64 import b64encode

import numpy as np
import numpy.typing as npt

TYPES = {"u1": "Uint8Array", "u2": "Uint16Array", "u4": "Uint32Array", "f8": "Float64Array"}
"""Names of the array types in JavaScript."""


def packed(values: npt.ArrayLike, kind: str) -> dict[str, str]:
    """Encode an array, flattened, as `{"type": name in JavaScript, "data": base64}`."""
    array = np.ascontiguousarray(values, dtype=np.dtype(f"<{kind}"))
    return {"type": TYPES[kind], "data": b64encode(array.tobytes()).decode("ascii")}
