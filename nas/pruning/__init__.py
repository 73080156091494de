"""FLOPs-aware training: gates on units, selection under a MACs budget, and the cut."""
