"""Predictions of a trained network: from image files or sentences to labels with probabilities."""
