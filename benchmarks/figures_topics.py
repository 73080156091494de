"""The topics of docs/figures.md: one function each, from the results to the rows of its table.

A row's numbers all come from one result, formatted here; remarks hold none that was measured. The
README's table takes its rows from here too. Knows the keys that each benchmark writes, not how a
table is laid out.
"""

from __future__ import annotations

from collections.abc import Mapping

from figures_format import Result, Row, Topic, fixed, listed, percent, sized, span, spread

Results = Mapping[str, Result]


def headline(results: Results) -> list[Row]:
    """The README's four figures: two where the engine is ahead, two where it is not."""
    return [pricing(results), regret(results), fidelity(results), cifar10(results)]


def pricing(results: Results) -> Row:
    r = results["counting"]

    def rate(counter: str) -> str:
        return sized(r.row(counter)["architectures/s"])

    return Row(
        f"MACs and parameters of {fixed(r.settings['architectures'])} random `ofa-mbv3` "
        "architectures, one core",
        f"{rate('tables, MACs and parameters')} architectures a second",
        listed(
            f"Once-for-All's own count {rate(OFA)}",
            f"fvcore {rate('fvcore')}",
            f"torch's counter {rate(TORCH)}",
        ),
        r.command,
    )


OFA, TORCH = "Once-for-All's own count", "torch's counter"


def regret(results: Results) -> Row:
    r = results["strategies"]

    def points(strategy: str) -> str:
        return fixed(r.row("mean", strategy)["regret@100"], 2)

    return Row(
        f"NAS-Bench-201, {r.settings['trials']} evaluations, {r.settings['seeds']} seeds: points "
        "of accuracy below the best architecture within the budget, mean over "
        f"{len({row['budget'] for row in r.rows}) - 1} budgets",
        f"`evolution` {points('evolution')}",
        listed(
            f"`random` {points('random')}",
            f"Optuna's TPE with a constraint {points('Optuna TPE')}",
            f"Optuna's NSGA-II {points('Optuna NSGA-II')}",
        ),
        r.command,
    )


def fidelity(results: Results) -> Row:
    r = results["fidelity"]
    s = r.settings
    macs = r.column("macs")
    return Row(
        f"Supernet on CIFAR-10 ({fixed(s['supernet_epochs'])} epochs): Kendall's τ of inherited "
        f"and stand-alone accuracy, {s['architectures']} architectures of {sized(min(macs))} to "
        f"{sized(max(macs))} FLOPs",
        f"{fixed(s['tau'], 2)} (95 % interval {s['95 % interval']})",
        f"ordering by FLOPs alone {fixed(s['tau of FLOPs alone'], 2)}",
        r.command,
    )


def cifar10(results: Results) -> Row:
    r = results["cifar10"]
    winner, by_hand = r.rows

    def figures(row: Mapping[str, float]) -> str:
        return (
            f"{percent(row['test accuracy'])} at {sized(row['macs'])} FLOPs, "
            f"{sized(row['params'])} parameters, {fixed(row['minutes'])} minutes"
        )

    return Row(
        f"CIFAR-10 at {sized(r.settings['high']['macs'])} FLOPs, test accuracy "
        f"({fixed(r.settings['test images'])} images), search and training included",
        figures(winner),
        f"MobileNetV2 narrowed by hand {figures(by_hand)}",
        r.command,
    )


def counting(results: Results) -> Topic:
    r, devices, scoring = results["counting"], results["scoring_devices"], results["scoring"]
    proposals, monitoring = results["proposals"], results["monitoring"]

    def rate(counter: str) -> str:
        return f"{sized(r.row(counter)['architectures/s'])} architectures a second"

    rows = [
        pricing(results),
        Row("the same with peak memory", rate("tables, with peak memory"), "", r.command),
        Row(
            "`nas count` on JSON lines of that space, start-up excluded",
            rate("nas count, JSON lines"),
            "",
            r.command,
        ),
        Row(
            f"Llama-style decoder: {r.settings['llama 70B']}",
            f"counted in {fixed(r.settings['its seconds'], 2)} s with "
            f"{fixed(r.settings['its memory (GB)'], 2)} GB",
            "",
            r.command,
        ),
    ]
    rows += [
        Row(
            f"MACs, parameters and peak memory, `{row['space']}` ({row['choices']} choices), "
            "one core",
            f"{sized(row['architectures/s'])} architectures a second",
            f"torch's counter {fixed(row[TORCH + '/s'], 1)}",
            scoring.command,
        )
        for row in scoring.rows
    ]
    rows += [
        Row(
            f"MACs, two latencies and an energy, `{row['space']}`, one core",
            f"{sized(row['with two latencies and an energy/s'])} architectures a second",
            f"MACs alone {sized(row['MACs alone/s'])} (share {row['share of the speed']})",
            devices.command,
        )
        for row in devices.rows
    ]
    rows += [
        Row(row["what"], f"{fixed(row['milliseconds'] / 1000, 2)} s", "", proposals.command)
        for row in proposals.rows
        if not row["what"].endswith("a proposal")
    ]
    rows += [
        Row(
            f"overhead of `ComputeMonitor` in {row['run']}, {row['passes']} passes, "
            f"{row['traces']} traced",
            f"{percent(row['overhead'])} (95 % interval {row['95 % interval']})",
            "the same run without it, in pairs",
            monitoring.command,
        )
        for row in monitoring.rows
    ]
    return Topic(
        "Counting and pricing",
        rows,
        [
            "All counters that count the same thing agree to the last multiply-accumulate; the "
            "benchmarks assert it."
        ],
    )


def supernet(results: Results) -> Topic:
    step, subnets, width = (
        results["supernet_step"],
        results["subnets"],
        results["width_adaptive_mobilenet"],
    )
    s = subnets.settings
    rows = [
        Row(
            f"training step of the largest network inside the supernet, `{row['space']}`",
            f"{fixed(row['ratio'], 2)} times its step alone (quartiles "
            f"{fixed(row['lower quartile'], 2)} to {fixed(row['upper quartile'], 2)})",
            "the network alone, in pairs",
            step.command,
        )
        for row in step.rows
    ]
    rows.append(fidelity(results))
    rows += [
        Row(
            f"CIFAR-10, a subnet of {sized(row['macs'])} FLOPs, trained on for "
            f"{fixed(s['epochs'])} epochs: test accuracy",
            f"{percent(row['trained on'])} (inherited {percent(row['inherited'])}) in "
            f"{fixed(row['seconds on'])} s",
            f"trained alone for {fixed(s['supernet_epochs'])} epochs {percent(row['alone'])} in "
            f"{fixed(row['seconds alone'])} s",
            subnets.command,
        )
        for row in subnets.rows
    ]
    rows.append(
        Row(
            "processor time of these trainings as a share of the trainings alone",
            f"{fixed(s['cost of the three as a share of alone'], 2)}; with the supernet's own "
            f"{fixed(s['seconds of the supernet'] / 60)} minutes "
            f"{fixed(s['the same with the supernet'], 2)}",
            f"less than alone from {s['subnets from which on all of it is cheaper']} subnets on",
            subnets.command,
        )
    )
    full, best, random = (row for row in width.rows if row["part"] == "width")
    rows.append(
        Row(
            f"CIFAR-10, supernet of {fixed(width.settings['epochs'])} epochs, a narrower subnet, "
            f"{best['network']}: test accuracy",
            f"{best['test']} with {best['fewer']} fewer MACs, {best[OF_FULL]} of the full network's",
            f"full network {full['test']}; {random['network']} {random['test']}, "
            f"{random['fewer']} fewer MACs",
            width.command,
        )
    )
    return Topic(
        "Supernet",
        rows,
        [
            "Sharing weights adds little to a training step. Over the whole range of sizes the "
            "order of inherited accuracies is about as good as the order of FLOPs; the intervals "
            "do not separate the two. Finalists therefore train shortly before one of them is "
            "the winner, and `nas fidelity` measures this for a run. The stand-alone trainings "
            "are short and noisy themselves."
        ],
    )


OF_FULL = "of the full one's"


def strategies(results: Results) -> Topic:
    r, proposals, relaxed = results["strategies"], results["proposals"], results["relaxed_step"]
    names = {
        "regularized-evolution": "`regularized-evolution`",
        "tpe": "Optuna's TPE within the tables' budget",
        "nsga2": "`nsga2`",
        "random": "`random`",
        "Optuna TPE": "Optuna's TPE with a constraint",
        "Optuna NSGA-II": "Optuna's NSGA-II with a constraint",
    }

    def compared(what: str, budget: str, key: str, *, share: bool = False) -> Row:
        def value(strategy: str) -> str:
            found = r.row(budget, strategy)[key]
            return percent(found) if share else fixed(found, 2)

        peers = listed(*(f"{shown} {value(name)}" for name, shown in names.items()))
        return Row(what, f"`evolution` {value('evolution')}", peers, r.command)

    budgets = list(dict.fromkeys(r.column("budget")))
    over = f"mean over {len(budgets) - 1} budgets, {r.settings['seeds']} seeds"
    rows = [
        compared(f"NAS-Bench-201, regret in points of validation accuracy after {n} "
                 f"evaluations, {over}", "mean", f"regret@{n}")
        for n in (25, 50, 100)
    ]  # fmt: skip
    rows += [
        compared("regret in test accuracy after 100, of the architecture that validation chooses",
                 "mean", "test regret"),
        compared("share of the attainable hypervolume after 100", "mean", "hypervolume",
                 share=True),
    ]  # fmt: skip
    rows += [
        compared(f"regret in validation accuracy after 100, {budget}", budget, "regret@100")
        for budget in budgets
        if budget != "mean"
    ]

    def a_proposal(name: str) -> str:
        return f"{fixed(proposals.row(f'{name}, a proposal')['milliseconds'], 2)} ms"

    rows.append(
        Row(
            f"time of a proposal, `{proposals.settings['space']}`, mean of "
            f"{fixed(proposals.settings['trials'])}",
            f"`evolution` {a_proposal('evolution')}",
            listed(
                f"`nsga2` {a_proposal('nsga2')}",
                f"`regularized-evolution` {a_proposal('regularized-evolution')}",
                f"Optuna's TPE with a constraint {a_proposal(OPTUNA_TPE)}",
            ),
            proposals.command,
        )
    )
    rows += [
        Row(
            f"relaxed step of `darts`, `{row['space']}`",
            f"{fixed(row['logits'], 2)} times the largest network's training step (quartiles "
            f"{fixed(row['logits lower'], 2)} to {fixed(row['logits upper'], 2)})",
            "that network's step, in turns",
            relaxed.command,
        )
        for row in relaxed.rows
    ]
    both = results["darts_evolution"]
    minutes = both.column("search minutes")
    rows.append(
        Row(
            f"CIFAR-10 at {both.settings['max_flops']} FLOPs, from one supernet, "
            f"{both.settings['seeds']} seeds, {span(minutes, 1)} minutes of search, "
            f"{span(both.column('epochs'), 1)} epochs from scratch: test accuracy",
            f"`darts` {spread(both.column('test accuracy', strategy='darts'))}",
            f"`evolution` {spread(both.column('test accuracy', strategy='evolution'))}",
            both.command,
        )
    )
    return Topic(
        "Strategies",
        rows,
        [
            "![Regret of the strategies](strategies.png)",
            "On a published table `evolution` reaches the same regret with fewer evaluations than "
            "its peers. The trainings that compare `darts` with `evolution` are short on both "
            "sides, with few seeds.",
        ],
    )


OPTUNA_TPE = "Optuna's TPE"


def proxies(results: Results) -> Topic:
    r, predictor = results["zero_cost"], results["zero_cost_predictor"]
    sizes = {row["ranked by"]: fixed(row["Spearman"], 2) for row in r.rows}
    peers = f"MACs {sizes.pop('macs')}; parameters {sizes.pop('params')}"
    rows = [
        Row(
            f"Spearman of `{name}` with accuracy after 12 epochs, {r.settings['cells']} cells of "
            "NAS-Bench-201",
            value,
            peers,
            r.command,
        )
        for name, value in sizes.items()
    ]
    rows += [
        Row(
            f"Kendall's τ of the predictor after {row['evaluations']} evaluations, with proxies",
            f"{fixed(row['with models of proxies'], 2)} from models of the proxies; "
            f"{fixed(row['with their own'], 2)} with each cell's own",
            f"without proxies {fixed(row['without'], 2)}",
            predictor.command,
        )
        for row in predictor.rows
    ]
    return Topic("Zero-cost proxies", rows)


def by_hand(results: Results) -> Topic:
    text, pruned = results["text"], results["flops_aware"]
    winner, same_epochs, same_time = text.rows

    def loss(row: Mapping[str, float]) -> str:
        return (
            f"{fixed(row['test loss'], 3)} at {sized(row['macs'])} FLOPs in "
            f"{fixed(row['seconds'])} s"
        )

    rows = [
        cifar10(results),
        Row(
            f"characters of tinyshakespeare at {text.settings['max_flops']} FLOPs: test loss in "
            "nats a character, seconds of one processor",
            f"the search's winner {loss(winner)}",
            f"set by hand {loss(same_epochs)} (as many epochs), {loss(same_time)} (as much time)",
            text.command,
        ),
    ]
    rows += [
        Row(
            f"digits, `nas train --target-flops` to {row['FLOPs']} of the network's FLOPs, "
            f"{pruned.settings['seeds']} seeds: test accuracy",
            f"{row['flops-aware']} % at {row['of target']} of the target",
            f"the network narrowed evenly and trained from scratch for as long "
            f"{row['width scaled']} % at {row['its share']}",
            pruned.command,
        )
        for row in pruned.rows
    ]
    return Topic(
        "Against networks made by hand",
        rows,
        [
            "Neither the search on CIFAR-10 nor the one on characters pays for its time at this "
            "scale: the network made by hand, trained for as long as the whole search took, is "
            "better. About half of the search's time goes into the supernet and the race. That "
            "search on CIFAR-10 used the strategy `nsga2`. Pruning to a target meets the target "
            "and is, within the noise, no better than an even narrowing.",
        ],
    )


def dynamic(results: Results) -> Topic:
    switch, exits = results["dynamic"], results["early_exit"]
    width = results["width_adaptive_mobilenet"]
    rows = []
    for row in switch.rows:
        rows += [
            Row(
                f"switching among subnets of `{row['space']}`, largest {fixed(row['range'])} "
                "times the MACs of the smallest",
                f"{fixed(row['switch ms'], 1)} ms (95 % within {fixed(row['95 %'], 1)})",
                f"building the subnet {fixed(row['rebuilt ms'])} ms",
                switch.command,
            ),
            Row(
                f"its weights, {switch.settings['subnets']} subnets",
                f"{fixed(row['weights MB'], 1)} MB shared, {fixed(row['own MB'], 1)} MB a "
                f"subnet's own, {fixed(row['stats MB'], 1)} MB statistics",
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
            f"CIFAR-10, a network of {sized(alone['mean MACs'])} FLOPs with early exits, {LIMIT} "
            f"{row['network'].split()[3]} points: test accuracy",
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
        [
            "Early exits save fewer parts of the time than of the MACs, since a batch that shrinks "
            "uses the processor less well."
        ],
    )


LIMIT = "validation may lose"


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
    for trained in ("with pruning", "without"):
        every = scored.row(trained, 1.0)
        rows += [
            Row(
                f"CIFAR-10, a small vision transformer trained {trained_as}, "
                f"{row['keep rate']} of the tokens kept by attention: test accuracy",
                percent(row["test accuracy"]),
                f"kept at random {percent(row['kept at random'])}; all kept "
                f"{percent(every['test accuracy'])}",
                scored.command,
            )
            for trained_as in [trained if trained != "without" else "without pruning"]
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


def latency(results: Results) -> Topic:
    table, fit = results["latency_table"], results["latency_fit"]
    rows = []
    for space in dict.fromkeys(table.column("space")):

        def figures(method: str, space: str = space) -> str:
            row = table.row(space, method)
            return f"{row['within 10 %']}, Spearman {fixed(row['Spearman'], 3)}"

        own = table.row(space, "table")
        rows.append(
            Row(
                f"latency of {own['networks']} unseen networks of `{space}`, onnxruntime, one "
                "thread: share within ±10 %",
                f"measured table {figures('table')} (table and check in {own['minutes']} minutes)",
                listed(
                    f"a line through FLOPs {figures('line through FLOPs')}",
                    f"estimate from the machine's peaks {figures('estimate from peaks')}",
                ),
                table.command,
            )
        )
    for samples in (10, 20, 50):
        own = fit.row("ours", samples)

        def rank(method: str, samples: int = samples) -> str:
            return f"{method} {fixed(fit.row(method, samples)['Spearman, 27'], 3)}"

        rows.append(
            Row(
                f"latency fitted to {samples} timed networks, NAS-Bench-201, "
                f"{fit.settings['devices']} devices, {fit.settings['seeds']} draws: mean Spearman",
                f"{fixed(own['Spearman, 27'], 3)} ({fixed(own['untouched 18'], 3)} on devices "
                f"the method was not designed on), mean error {own['error']}",
                listed(
                    rank("least squares on counts"),
                    rank("Gaussian process"),
                    f"FLOPs alone {fixed(fit.row('FLOPs alone')['Spearman, 27'], 3)}",
                ),
                fit.command,
            )
        )
    return Topic("Latency", rows)


def workers(results: Results) -> Topic:
    scaling = [result for name, result in results.items() if name.startswith("ray_scaling")]
    rows = [
        Row(
            f"two Ray workers of one thread each: {row['what']}",
            f"{fixed(row['ratio'], 2)} times as fast ({row['two workers']} {row['unit']})",
            f"one worker {row['one worker']}, in turns",
            result.command,
        )
        for result in scaling
        for row in result.rows
    ]
    r = results["thousand_workers"]
    for row in r.rows:
        seconds = row["overhead ms"] * r.settings["workers"] / 1000
        rows.append(
            Row(
                f"overhead of the searching process per candidate: {row['what']}",
                f"{fixed(row['overhead ms'], 1)} ms, of it {fixed(row['store ms'], 1)} ms in "
                "Optuna's SQLite storage",
                f"keeps {fixed(r.settings['workers'])} workers busy from {fixed(seconds)} s an "
                "evaluation on",
                r.command,
            )
        )
    return Topic(
        "Workers",
        rows,
        [
            "Rows named by a strategy simulate the workers and run the real strategy and study; "
            "rows named Ray use real actors that do nothing."
        ],
    )


def files(results: Results) -> Topic:
    speed, export = results["report_speed"], results["export"]
    what = f"a run of {fixed(speed.settings['trials'])} evaluations (`{speed.settings['space']}`): "
    rows = [
        Row(
            what + row["what"],
            f"{fixed(row['median'], 1)} (at most {fixed(row['worst'], 1)})",
            "",
            speed.command,
        )
        for row in speed.rows
        if "of a processor" not in row["what"]
    ]
    for row in export.rows:
        network = f"`{row['space']}`, {row['pixels']} pixels, {row['MFLOPs']}M FLOPs"
        rows += [
            Row(
                f"export of {network}, checked in {row['formats']} forms",
                f"{fixed(row['export s'], 1)} s, of it {fixed(row[FRESH], 1)} s in the fresh "
                "process",
                "",
                export.command,
            ),
            Row(
                f"its ONNX file: time of a pass in onnxruntime, and to write it in "
                f"{fixed(row['onnx s'], 2)} s",
                f"{fixed(row['ratio'], 3)} times torch's file (95 % interval {row['95 %']})",
                f"torch's exporter, written in {fixed(row[TORCH_ONNX], 1)} s",
                export.command,
            ),
        ]
    return Topic("Reports and exports", rows)


FRESH, TORCH_ONNX = "of it the fresh process", "torch's onnx s"


def carbon(results: Results) -> Topic:
    published, operations = results["carbon_published"], results["carbon_operations"]
    stated = {
        row["figure"]: f"{row['kWh']} kWh, {row['kg CO2e']} kg ({row['from']})"
        for row in published.rows
        if row["by"] == "published"
    }
    rows = [
        Row(
            f"{row['figure']}, {row['by']}: {row['from']}",
            f"{row['kWh']} kWh, {row['kg CO2e']} kg CO2e",
            stated.get(row["figure"], ""),
            published.command,
        )
        for row in published.rows
        if row["by"] != "published"
    ]
    rows += [
        Row(
            f"a {operations.settings['device']} alone, {row['precision']} at "
            f"{row['share of peak']} of its peak",
            f"{row['pJ/FLOP']} pJ a FLOP",
            f"{row['at 300 W']} at 300 W",
            operations.command,
        )
        for row in operations.rows
    ]
    return Topic(
        "Energy and carbon",
        rows,
        [
            "The peer is the published figure. *Its inputs* multiplies what the paper states; "
            "*our defaults* uses the device and the work only, at the meter and on the US grid of "
            "2023. [Energy and carbon](carbon.md) explains the differences."
        ],
    )


TOPICS = (
    counting, supernet, strategies, proxies, by_hand, dynamic, tokens, latency, workers, files,
    carbon,
)  # fmt: skip
