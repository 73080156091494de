"""A network of a run as a release: files, model card, efficiency record, comparison."""
