"""A search with a time of its own: how the time is divided, and a race whose trainings go on."""
