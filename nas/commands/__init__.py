"""Commands of the command line: options and their checks, one module a topic."""
