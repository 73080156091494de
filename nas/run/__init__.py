"""A run's folder: specification, study, rankings, history and energy footprint."""
