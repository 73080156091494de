"""Energy, power, carbon and GreenScore, each with its range."""
