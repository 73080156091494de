"""Evaluation and training on Ray workers.

The only package that uses Ray. Knows pools, remote trainings and clusters. Does not know what an
evaluator computes, which architectures are proposed or how a network trains.
"""
