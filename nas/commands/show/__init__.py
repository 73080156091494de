"""Runs commands of `nas` and prints their results.

Each module checks the input of one topic, calls the engine and prints tables for people, or JSON
and CSV for programs. Results go to standard output, progress and errors to standard error. Knows
runs, tasks and results. Does not know the options of the command line.
"""
