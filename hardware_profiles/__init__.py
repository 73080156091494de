"""Where networks run: what is known about machines."""
