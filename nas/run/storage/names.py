"""Names that what belongs to a study has in Optuna's tables. Imports nothing that takes time."""

from __future__ import annotations

STUDY_NAME = "search"
"""The study of a file that holds no other."""

BUDGET_KEY = "constraints:budget"
"""Key under which Optuna stores the constraint of a trial."""
