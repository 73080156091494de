"""The predictor of metrics: features of architectures and surrogate models."""
