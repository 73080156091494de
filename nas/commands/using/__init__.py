"""Commands that use a trained network: `nas predict` and `nas scores`."""
