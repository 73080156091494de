"""Draw the frontier of a run to a picture file.

python examples/frontier_picture.py runs/digits-... frontier.png
"""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import nas


def main(folder: str, picture: str) -> None:
    """Draw every evaluated architecture, the frontier, the winner and the budget."""
    run = nas.Run(folder)
    done = [e for e in run.evaluations() if e.error is None]
    front, winner = run.front(done), run.find("best")
    figure, axes = plt.subplots(figsize=(7, 4), dpi=150)
    macs = [e.metrics["macs"] / 1e3 for e in done]
    accuracy = [100 * e.metrics["accuracy"] for e in done]
    axes.scatter(macs, accuracy, s=14, color="#9aa5b1", label="evaluated")
    macs = [e.metrics["macs"] / 1e3 for e in front]
    accuracy = [100 * e.metrics["accuracy"] for e in front]
    axes.step(macs, accuracy, where="post", color="#0b6e99", marker="o", label="frontier")
    best = (winner.metrics["macs"] / 1e3, 100 * winner.metrics["accuracy"])
    axes.scatter(*best, s=90, facecolors="none", edgecolors="#c2410c", lw=2, label="winner")
    if "macs" in run.budget.high:
        axes.axvline(run.budget.high["macs"] / 1e3, color="#c2410c", ls="--", lw=1, label="budget")
    axes.set_xlabel("FLOPs, thousands (1 MAC = 1 FLOP)")
    axes.set_ylabel("validation accuracy, %")
    axes.legend(loc="lower left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(picture)


if __name__ == "__main__":
    main(*sys.argv[1:3])
