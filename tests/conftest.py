"""What all tests share: threads that yield, and hypothesis without a clock."""

from __future__ import annotations

import os

# Before torch is imported anywhere: threads that spin at a barrier slow a busy machine tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hypothesis import settings

settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
