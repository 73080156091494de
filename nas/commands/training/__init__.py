"""Trains networks of a run and measures the fidelity of its scores: `nas train`, `nas fidelity`.

Each module checks the input before a training starts and prints the result. Knows runs and results
of trainings. Does not know the options of the command line or how networks train.
"""
