"""What all tests share: threads that yield, and hypothesis without a clock."""

from __future__ import annotations

import os

# Before torch is imported anywhere: threads that spin at a barrier slow a busy machine tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hypothesis import settings

# The same examples in every CI run: a change is judged by what it changed. Elsewhere they vary.
settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tests")
