"""What a report finds out about a run: what its choices are worth, and what its numbers are."""
