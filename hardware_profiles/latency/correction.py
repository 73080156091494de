"""From a sum over blocks to a network: what blocks on their own pay, and networks do not.

A block that is timed alone pays for a call, and for bringing its input and output into and out of
the runtime's own layout; in a network it does not, and may find in the cache what it would not on
its own. So a network takes

    milliseconds = sum over blocks of scale * (measured - call) + megabyte * megabytes

where `call` is the overhead of a separate call and `megabytes` what enters and leaves the block.
The three numbers are fitted to a few whole networks, as few of them as leave-one-out calls for: all
of it stays a sum over blocks. Knows numbers. Does not know how they were measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from hardware_profiles.latency.agreement import WITHIN

LEAST = 0.1
"""Share of its measured time that a block takes at least, however much a call takes."""

SUBSETS = ((0,), (0, 1), (0, 1, 2))
"""Which of scale, call and megabyte are fitted, simplest first."""

GAIN = 0.9
"""A number more is fitted where it brings the error left out below this share of what it was."""


class Correction(BaseModel):
    """What makes of measured blocks what they add to a network; all in milliseconds.

    `error` and `within` are of networks that were left out of the fit, one by one: the mean
    absolute relative error, and the share of them within 10 %.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: float = 1.0
    call_ms: float = 0.0
    megabyte_ms: float = 0.0
    networks: int = 0
    error: float | None = None
    within: float | None = None

    def milliseconds(self, measured: float, megabytes: float) -> float:
        """What a block adds to a network."""
        alone = max(measured - self.call_ms, LEAST * measured)
        return self.scale * alone + self.megabyte_ms * megabytes


@dataclass(frozen=True)
class Sample:
    """A measured network: `blocks` are (measured milliseconds, megabytes in and out) of each."""

    blocks: Sequence[tuple[float, float]]
    milliseconds: float


def fit_correction(samples: Sequence[Sample]) -> Correction:
    """The correction that fits some networks best, as it predicts those that it was not shown."""
    if len(samples) < 3:
        return _fitted(samples, (0,)) if samples else Correction()
    chosen: tuple[Correction, float, float] | None = None
    for subset in SUBSETS:
        if len(samples) < 2 * len(subset) + 1:
            break
        errors = []
        for index, left_out in enumerate(samples):
            others = [s for i, s in enumerate(samples) if i != index]
            errors.append(relative_error(_fitted(others, subset), left_out))
        error = float(np.mean(np.abs(errors)))
        if chosen is None or error < GAIN * chosen[1]:
            within = float(np.mean(np.abs(errors) <= WITHIN))
            chosen = _fitted(samples, subset), error, within
    assert chosen is not None
    correction, error, within = chosen
    return correction.model_copy(update={"error": error, "within": within})


def relative_error(correction: Correction, sample: Sample) -> float:
    """How far above what was measured the correction puts a network, as a share of it."""
    total = sum(correction.milliseconds(*block) for block in sample.blocks)
    return total / sample.milliseconds - 1


def _fitted(samples: Sequence[Sample], subset: Sequence[int]) -> Correction:
    """Least squares of relative errors over the numbers in `subset`."""
    columns: npt.NDArray[np.float64] = np.array(
        [
            [sum(t for t, _ in s.blocks), -float(len(s.blocks)), sum(m for _, m in s.blocks)]
            for s in samples
        ]
    )
    wanted = np.array([s.milliseconds for s in samples])
    weighted = columns[:, list(subset)] / wanted[:, None]
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
