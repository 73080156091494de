"""MACs of a network as a function of gates on its units and residual branches.

The MACs of an op are a constant times its input width, times its output width, times the gates of
the branches that contain it. The MACs of a cut network are therefore a polynomial of the gates:
exact for gates of 0 and 1, and differentiable in the probabilities of independent gates. Knows ops
and tied features. Does not know how gates are trained or chosen.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evaluators.costs.tables import block_costs, kept_outputs
from evaluators.metrics import COUNTED
from search_spaces import ops as o
from search_spaces import token_ops as t
from search_spaces.cutting.cut_ops import Kept
from search_spaces.cutting.tied_features import TiedFeatures
from search_spaces.serial import Blocks

Ints = npt.NDArray[np.int64]

_BY_FEATURE = (o.Attention, t.RelativeAttention, t.CausalConvolution)
"""Types of ops whose MACs are proportional to their output features, and to no input's."""

_WIDTHS = (o.Conv2d, o.Linear, t.TiedLinear, *_BY_FEATURE)
"""Types of ops whose MACs are proportional to their output features."""


class GatedMacs:
    """MACs of a network from which closed gates remove units and branches.

    A term is `coefficient * width[reads] * width[gives] * branch gates`; a width is the sum of the
    gates of a tensor's features. Width 0 is the constant 1, for ops whose MACs do not depend on
    their input or output width.
    """

    def __init__(self, features: TiedFeatures) -> None:
        self.features = features
        index: dict[int, int] = {}
        entries: list[tuple[int, Ints]] = []

        def width(key: str, first: int | None = None) -> int:
            """Index of the width of a tensor, or of its `first` features."""
            units = features.units[key][:first] if first else features.units[key]
            if id(units) not in index:
                index[id(units)] = len(index) + 1
                entries.append((index[id(units)], units))
            return index[id(units)]

        coefficients: list[int] = []
        reads: list[int] = []
        gives: list[int] = []
        within: list[list[int]] = []
        shared: list[tuple[int, int, int]] = []
        for node in features.wiring.nodes.values():
            op = node.op
            if not op.macs:
                continue
            source, target = 0, 0
            coefficient = op.macs
            if isinstance(op, _WIDTHS):
                shape = op.out_shape
                target = width(node.key)
                coefficient //= o.feature_count(shape)
                if not isinstance(op, _BY_FEATURE) and (
                    not isinstance(op, o.Conv2d) or op.groups == 1
                ):
                    source = width(node.inputs[0])
                    coefficient //= len(features.units[node.inputs[0]])
                    pair = (features.units[node.inputs[0]], features.units[node.key])
                    shared += _shared(len(coefficients), *pair, features.count)
            elif isinstance(op, t.KeepTokens):
                source = width(node.inputs[1], op.inner)
                coefficient //= op.inner
            coefficients.append(coefficient)
            reads.append(source)
            gives.append(target)
            within.append([i for i, b in enumerate(features.branches) if node.key in b.nodes])
        self.coefficients: Ints = np.array(coefficients, dtype=np.int64)
        self.reads: Ints = np.array(reads, dtype=np.int64)
        self.gives: Ints = np.array(gives, dtype=np.int64)
        depth = max([1, *map(len, within)])
        always = len(features.branches)
        self.within: Ints = np.array([w + [always] * (depth - len(w)) for w in within])
        self.widths = len(index) + 1
        # For each feature of each width: the index of the width and that of the feature's gate.
        self.width_of: Ints = np.concatenate([np.full(len(u), w) for w, u in entries])
        self.unit_of: Ints = np.concatenate([u for _, u in entries])
        self.shared: Ints = np.array(shared, dtype=np.int64).reshape(-1, 3)

    def count(self, kept: Kept) -> int:
        """Exact MACs of the network with only the kept units and branches."""
        units = np.append(kept.units, True).astype(np.float64)
        # float64 represents every width exactly.
        sums = np.bincount(self.width_of, units[self.unit_of], self.widths).astype(np.int64)
        sums[0] = 1
        gates = np.append(kept.branches, True)[self.within].all(axis=1)
        return int((self.coefficients * sums[self.reads] * sums[self.gives])[gates].sum())

    def expected(self, units: Tensor, branches: Tensor) -> Tensor:
        """Expected MACs of independent gates that are open or closed, a float64 scalar.

        Args:
            units: `(units,)` probabilities that the gates of units are open.
            branches: `(branches,)` the same for branches.
        """
        index = self._tensors
        one = torch.ones(1, dtype=torch.float64, device=units.device)
        p = torch.cat([units.double(), one])
        b = torch.cat([branches.double(), one])
        sums = torch.zeros(self.widths, dtype=torch.float64, device=units.device)
        sums = sums.index_add(0, index["width_of"], p[index["unit_of"]])
        sums = torch.cat([one, sums[1:]])
        products = sums[index["reads"]] * sums[index["gives"]]
        if len(self.shared):
            # A unit on both sides of a product has one gate: E[z z] is p, not p^2.
            term, unit, times = index["shared"].unbind(1)
            products = products.index_add(0, term, times * p[unit] * (1 - p[unit]))
        return (index["coefficients"] * products * b[index["within"]].prod(dim=1)).sum()

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        names = ("width_of", "unit_of", "reads", "gives", "shared", "coefficients", "within")
        return {name: torch.from_numpy(getattr(self, name)) for name in names}

    @cached_property
    def whole(self) -> int:
        """MACs of the uncut network."""
        return self.count(Kept.everything(self.features))

    @cached_property
    def smallest(self) -> int:
        """MACs of the smallest cut network: one unit of each group, no branch."""
        units = np.zeros(self.features.count, dtype=bool)
        for group in self.features.groups:
            units[group.units[0]] = True
        return self.count(Kept(units, np.zeros(len(self.features.branches), dtype=bool)))


def _shared(term: int, reads: Ints, gives: Ints, count: int) -> list[tuple[int, int, int]]:
    """`(term, unit, number of pairs)` for each unit on both sides of a product."""
    a, b = (np.bincount(side, minlength=count + 1)[:count] for side in (reads, gives))
    both = np.flatnonzero(a * b)
    return [(term, unit, int(a[unit] * b[unit])) for unit in both.tolist()]


def network_costs(blocks: Blocks) -> dict[str, int]:
    """MACs, parameters and peak bytes of activations of a network, with the keys `COUNTED`."""
    kept = kept_outputs([(name, [tuple(ops)]) for name, ops in blocks])
    rows = [block_costs(ops, held) for (_, ops), held in zip(blocks, kept, strict=True)]
    macs, params, memory = zip(*rows, strict=True)
    return dict(zip(COUNTED, (sum(macs), sum(params), max(memory)), strict=True))
