"""The search, from a specification to a winner."""
