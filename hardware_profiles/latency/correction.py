"""Correct a sum of isolated block latencies to the latency of a network.

The time of an isolated block includes a call and the conversion of its input and output to and from
the runtime's layout. In a network these are absent, and its data may be in the cache. The latency
of a network is modelled as

    milliseconds = sum over blocks of scale * (measured - call) + megabyte * megabytes

where `call` is the overhead of a separate call and `megabytes` the size of the block's inputs and
output. The three coefficients are fitted to a few whole networks; leave-one-out validation selects
how many of them. The model remains a sum over blocks. Knows times and sizes. Does not know how they
were measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from hardware_profiles.latency.agreement import HIT_TOLERANCE

MIN_SHARE = 0.1
"""Smallest share of a block's measured time that is left after subtracting the call."""

FITTED_SUBSETS = ((0,), (0, 1), (0, 1, 2))
"""Subsets of scale, call and megabyte that are fitted, by index, simplest first."""

MIN_IMPROVEMENT = 0.9
"""A larger subset is used if it brings the leave-one-out error below this share of the former."""


class Correction(BaseModel):
    """Coefficients from isolated block times to contributions to a network, in milliseconds.

    `networks` is the number of networks fitted. `error` and `within` are from leave-one-out
    validation: the mean absolute relative error, and the share of networks within 10 %.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: float = 1.0
    call_ms: float = 0.0
    megabyte_ms: float = 0.0
    networks: int = 0
    error: float | None = None
    within: float | None = None

    def milliseconds(self, measured: float, megabytes: float) -> float:
        """Return a block's contribution to a network.

        Args:
            measured: milliseconds of the isolated block.
            megabytes: size of its inputs and output.
        """
        without_call = max(measured - self.call_ms, MIN_SHARE * measured)
        return self.scale * without_call + self.megabyte_ms * megabytes


@dataclass(frozen=True)
class Sample:
    """A measured network: for each block (measured milliseconds, megabytes in and out)."""

    blocks: Sequence[tuple[float, float]]
    milliseconds: float


def fit_correction(samples: Sequence[Sample]) -> Correction:
    """Fit a correction to measured networks, with the coefficients chosen by leave-one-out error.

    With fewer than three networks only the scale is fitted; with none nothing is corrected.
    """
    if len(samples) < 3:
        return _fitted(samples, (0,)) if samples else Correction()
    chosen: tuple[Correction, float, float] | None = None
    for subset in FITTED_SUBSETS:
        if len(samples) < 2 * len(subset) + 1:
            break
        errors = []
        for index, left_out in enumerate(samples):
            others = [s for i, s in enumerate(samples) if i != index]
            errors.append(relative_error(_fitted(others, subset), left_out))
        error = float(np.mean(np.abs(errors)))
        if chosen is None or error < MIN_IMPROVEMENT * chosen[1]:
            within = float(np.mean(np.abs(errors) <= HIT_TOLERANCE))
            chosen = _fitted(samples, subset), error, within
    assert chosen is not None
    correction, error, within = chosen
    return correction.model_copy(update={"error": error, "within": within})


def relative_error(correction: Correction, sample: Sample) -> float:
    """Return `predicted / measured - 1` of a network."""
    total = sum(correction.milliseconds(*block) for block in sample.blocks)
    return total / sample.milliseconds - 1


def _fitted(samples: Sequence[Sample], subset: Sequence[int]) -> Correction:
    """Fit the coefficients in `subset` by least squares of the relative errors."""
    columns: npt.NDArray[np.float64] = np.array(
        [
            [sum(t for t, _ in s.blocks), -float(len(s.blocks)), sum(m for _, m in s.blocks)]
            for s in samples
        ]
    )
    measured = np.array([s.milliseconds for s in samples])
    weighted = columns[:, list(subset)] / measured[:, None]
    found = np.linalg.lstsq(weighted, np.ones(len(samples)), rcond=None)[0]
    scale, of_call, megabyte = (
        float(found[subset.index(which)]) if which in subset else 0.0 for which in range(3)
    )
    return Correction(
        scale=scale,
        call_ms=max(0.0, of_call / scale) if scale > 0 else 0.0,
        megabyte_ms=megabyte,
        networks=len(samples),
    )
