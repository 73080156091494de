"""The training loop, its checkpoints, and the training steps of a single network."""
