"""The named search spaces, one module each, and the keep-rate choices of token pruning."""
