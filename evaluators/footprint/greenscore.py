"""GreenScore: accuracy weighted by compute and carbon.

    score = accuracy * (macs_max / macs) ^ alpha * (co2_max / co2) ^ beta

The two maxima are the largest MACs and CO2 of a reference set, so the score of the reference's most
costly network is its accuracy. Scores are comparable only within one reference set, whose name is
therefore part of every score.

The exponents set the value of accuracy relative to cost. MnasNet (Tan et al., CVPR 2019) uses 0.07
for latency, since doubling it brought about 5 % more accuracy: 2^0.07 = 1.05. Energy is nearly
proportional to FLOPs, so the two exponents act together and by default share that 0.07. With both
at 1, a network of a tenth of the cost would win with a hundredth of the accuracy.

Knows the formula. Does not know where accuracy or carbon come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluators.metrics import GREENSCORE_EXPONENT
from search_spaces.errors import UserError

Number = float | npt.NDArray[np.float64]


@dataclass(frozen=True)
class GreenScore:
    """The score relative to a reference set.

    Args:
        reference: description of the set for readers: `the frontier of runs/c10`.
        macs_max: largest MACs in the set.
        co2_max: largest CO2 in the set (of training, inference or both, in any one unit; or joules,
            on one grid); None if unknown, in which case `beta` must be 0.
        alpha: exponent of compute.
        beta: exponent of carbon.

    Raises:
        UserError: for maxima that are not above zero, negative exponents, or a `beta` without CO2.
    """

    reference: str
    macs_max: float
    co2_max: float | None = None
    alpha: float = GREENSCORE_EXPONENT
    beta: float = GREENSCORE_EXPONENT

    def __post_init__(self) -> None:
        """Check the maxima and exponents."""
        _above_zero("macs_max", self.macs_max)
        for name, exponent in (("alpha", self.alpha), ("beta", self.beta)):
            if not 0 <= exponent < float("inf"):
                raise UserError(f"GreenScore's {name} = {exponent:g}: expected at least 0")
        if self.co2_max is not None:
            _above_zero("co2_max", self.co2_max)
        elif self.beta != 0:
            raise UserError(
                f"GreenScore's beta = {self.beta:g}, but no CO2 is known: expected beta = 0"
            )

    def score(
        self, accuracy: Number | list[float], macs: Number, co2: Number | None = None
    ) -> Number:
        """Compute the score of one network or of many.

        Args:
            accuracy: a share; `(n,)` for many, as the others then are. NaN gives NaN.
            macs: above zero.
            co2: above zero, in the unit of `co2_max`; not needed if `beta` is 0.

        Raises:
            UserError: for MACs or CO2 not above zero, an accuracy below zero, or missing CO2.
        """
        shares = np.asarray(accuracy, dtype=np.float64)
        if (shares < 0).any():
            raise UserError(f"accuracy {shares.min():g}: expected at least 0")
        result = shares * (self.macs_max / _above_zero("macs", macs)) ** self.alpha
        if self.beta:
            if co2 is None:
                raise UserError(f"GreenScore with beta = {self.beta:g} needs the CO2 of a network")
            assert self.co2_max is not None
            result = result * (self.co2_max / _above_zero("co2", co2)) ** self.beta
        return result if np.ndim(result) else float(result)

    def __str__(self) -> str:
        """The formula with its numbers, for display beside a score."""
        text = f"accuracy × ({self.macs_max:.4g} / FLOPs)^{self.alpha:g}"
        if self.beta:
            text += f" × ({self.co2_max:.4g} / CO2)^{self.beta:g}"
        else:
            text += " (no CO2: its exponent is 0)"
        return f"{text}, relative to {self.reference}"


def _above_zero(name: str, value: Number) -> npt.NDArray[np.float64]:
    """The value as an array; raises `UserError` unless all of it is above zero and finite."""
    values = np.asarray(value, dtype=np.float64)
    if not ((values > 0) & (values < np.inf)).all():
        wrong = values[~((values > 0) & (values < np.inf))].flat[0]
        raise UserError(f"{name} = {wrong:g}: expected above zero")
    return values
