"""Published networks to show beside a frontier, for runs on the same data set.

Their numbers are in `published_networks.json`, each with its source. Knows names of data sets. Does
not know what a run found.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nas.run.specification import Specification
from search_spaces.files import read_json

PUBLISHED_NETWORKS = Path(__file__).with_name("published_networks.json")

IMAGENET = re.compile(r"(ilsvrc[-_]?(2012)?[-_]?)?imagenet([-_]?(1k|1000|2012|ilsvrc2012))?")
"""Names of ImageNet-1k, but not of its subsets, supersets and variants."""


def published(specification: Specification) -> list[dict[str, Any]]:
    """Networks to compare with: `name`, `accuracy`, `macs`, `params` (or None), `source`."""
    name = (specification.data or "").rstrip("/").lower().rpartition("/")[2]
    if not IMAGENET.fullmatch(name):
        return []
    content = read_json(PUBLISHED_NETWORKS)
    return list(content["networks"])
