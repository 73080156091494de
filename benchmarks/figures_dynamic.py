"""Topics of docs/figures.md about networks that change their compute: switching, exits, tokens.

One function each; see `figures_accuracy.py` for what they keep to.
"""

from __future__ import annotations

from figures_format import Results, Row, Topic, fixed, percent, sized, span


def dynamic(results: Results) -> Topic:
    switch, exits = results["dynamic"], results["early_exit"]
    width = results["width_adaptive_mobilenet"]
    rows = []
    for row in switch.rows:
        rows += [
            Row(
                f"switching among subnets of `{row['space']}`, largest {fixed(row['range'])} "
                "times the MACs of the smallest",
                f"median {fixed(row['switch ms'], 1)} ms (95 % within {fixed(row['95 %'], 1)})",
                f"building the subnet {fixed(row['rebuilt ms'])} ms",
                switch.command,
            ),
            Row(
                f"its weights, {switch.settings['subnets']} subnets",
                f"{fixed(row['weights MB'], 1)} MB shared, at most {fixed(row['own MB'], 1)} MB of "
                f"the active subnet's own, {fixed(row['stats MB'], 1)} MB of statistics",
                f"separate networks {fixed(row['apart MB'], 1)} MB",
                switch.command,
            ),
            Row(
                "its time of a pass",
                f"{fixed(row['slower, batch 1'], 2)} times a copy's at batch 1, "
                f"{fixed(row['slower, batch 16'], 2)} at batch 16",
                "a copy with contiguous weights, in pairs",
                switch.command,
            ),
        ]
    alone, whole, *leaving = exits.rows
    peer = f"trained alone {percent(alone['test accuracy'])}; run whole " + percent(
        whole["test accuracy"]
    )
    rows += [
        Row(
            f"CIFAR-10, a network of {sized(alone['mean MACs'])} FLOPs with early exits that may "
            f"lose {row['network'].split()[3]} points in validation: test accuracy",
            f"{percent(row['test accuracy'])}, {row['MACs saved']} fewer mean MACs, "
            f"{row['time saved']} less time at batch {exits.settings['batch']}",
            peer,
            exits.command,
        )
        for row in leaving
    ]
    full = next(row for row in width.rows if row["network"] == "full network")
    rows += [
        Row(
            f"CIFAR-10, images choose their resolution, {row['network']}",
            f"{row['test']} with {row['fewer']} fewer MACs",
            f"full network {full['test']}",
            width.command,
        )
        for row in width.rows
        if row["network"].startswith("adaptive")
    ]
    return Topic(
        "Early exits, switching, resolution",
        rows,
        ["Early exits save a smaller share of the time than of the MACs."],
    )


def tokens(results: Results) -> Topic:
    r, scored = results["token_pruning"], results["token_pruning_accuracy"]
    rows = []
    for network in dict.fromkeys(r.column("network")):
        for rate in (0.7, 0.5):
            kept = {"network": network, "keep rate": rate}
            rows.append(
                Row(
                    f"{network} with random weights, {rate} of the tokens kept at three blocks, "
                    "torch and onnxruntime, batches "
                    f"{span(r.column('batch', **kept), 0)}",
                    f"{span(r.column('MACs ratio', **kept))} of the MACs, "
                    f"{span(r.column('time ratio', **kept))} of the time",
                    "all tokens kept, in turns",
                    r.command,
                )
            )
    for trained, words in (("with pruning", "with pruning"), ("without", "without pruning")):
        every = scored.row(trained, 1.0)
        rows += [
            Row(
                f"CIFAR-10, a small vision transformer trained {words}, "
                f"{row['keep rate']} of the tokens kept by attention: test accuracy",
                percent(row["test accuracy"]),
                f"kept at random {percent(row['kept at random'])}; all kept "
                f"{percent(every['test accuracy'])}",
                scored.command,
            )
            for row in scored.rows
            if row["trained"] == trained and row["keep rate"] < 1
        ]
    return Topic(
        "Token pruning",
        rows,
        [
            "Time falls with the MACs. Scoring by attention is no better than keeping tokens at "
            "random in these short trainings, and worse where training did not prune."
        ],
    )
