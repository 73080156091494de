"""Sets the environment variables of Ray, some of which it reads when it is imported.

Knows environment variables. Does not import Ray.
"""

from __future__ import annotations

import os

SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_worker_niceness": "0",
}
"""Turn off Ray's banner, usage note, accelerator warning and the logs of machines that died, and
give its workers the priority of this process: by default any other process starves them."""


def apply() -> None:
    """Set each variable that the user has not set."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
