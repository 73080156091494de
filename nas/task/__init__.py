"""What a specification describes: the data, the space, the cost tables, the schedule."""
