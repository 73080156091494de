"""How Ray behaves where we use it: set before it is imported, since it reads some of it then."""

from __future__ import annotations

import os

SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_worker_niceness": "0",
}
"""Ray's banner, usage note, accelerator warning, and the logs of machines that died are not the
search's output. Its workers are as important as this process; Ray's default lets them starve
beside anything else that runs."""


def apply() -> None:
    """Set what the user has not."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
