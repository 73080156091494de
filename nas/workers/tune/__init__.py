"""Candidates that train from scratch as trials of Ray Tune, with early stopping by ASHA.

Knows Ray Tune and the training of one candidate. Does not know which candidates are proposed.
"""
