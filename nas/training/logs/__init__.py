"""Where learning curves go while networks train, beside the run folder.

`log.py` has the interface of a log and those that are open; `tensorboard.py`, `mlflow.py` and
`wandb.py` implement it. Does not know what trains.
"""
