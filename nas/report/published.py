"""Published networks as marks beside a frontier, where they were trained on the same data.

The figures are in `published_networks.json`, each with its source. Knows names of data sets.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nas.run.specification import Specification

FILE = Path(__file__).with_name("published_networks.json")

IMAGENET = re.compile(r"(ilsvrc[-_]?(2012)?[-_]?)?imagenet([-_]?(1k|1000|2012|ilsvrc2012))?")
"""What ImageNet-1k is called, as no smaller, larger or harder relative of it is."""


def published(specification: Specification) -> list[dict[str, Any]]:
    """Networks to compare a run with: `name`, `accuracy`, `macs`, `params` or None, `source`."""
    name = (specification.data or "").rstrip("/").lower().rpartition("/")[2]
    if not IMAGENET.fullmatch(name):
        return []
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return list(content["networks"])
