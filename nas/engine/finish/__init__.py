"""From the evaluated architectures to the exported network: race, training, score, summary."""
