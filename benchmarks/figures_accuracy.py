"""Topics of docs/figures.md about what a search finds: supernet, strategies, proxies, peers.

One function each, from the results to the rows of its table. A row's numbers all come from one
result; remarks hold none that was measured. Knows the keys that each benchmark writes, not how a
table is laid out.
"""

from __future__ import annotations

from collections.abc import Mapping

from figures_format import Results, Row, Topic, fixed, listed, percent, sized, span, spread

OF_FULL = "of the full one's"
OPTUNA_TPE = "Optuna's TPE"
PAPERS = "papers, 200 epochs"


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
        f"supernet on CIFAR-10 ({fixed(s['supernet_epochs'])} epochs): Kendall's τ of inherited "
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
        f"{by_hand['network']}, made by hand, {figures(by_hand)}",
        r.command,
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
            f"{fixed(s['the same with the supernet'], 2)}; below 1 from "
            f"{s['subnets from which on all of it is cheaper']} subnets on",
            "the same networks trained alone",
            subnets.command,
        )
    )
    full, best, random = (row for row in width.rows if row["part"] == "width")
    rows.append(
        Row(
            f"CIFAR-10, supernet of {fixed(width.settings['epochs'])} epochs, a narrower subnet, "
            f"{best['network']}: test accuracy",
            f"{best['test']} with {best['fewer']} fewer MACs, {best[OF_FULL]} of the full "
            "network's",
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
        compared(
            f"NAS-Bench-201, regret in points of validation accuracy after {n} evaluations, {over}",
            "mean",
            f"regret@{n}",
        )
        for n in (25, 50, 100)
    ]
    rows += [
        compared(
            "regret in test accuracy after 100, of the architecture that validation chooses",
            "mean",
            "test regret",
        ),
        compared(
            "share of the attainable hypervolume after 100", "mean", "hypervolume", share=True
        ),
    ]
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


def proxies(results: Results) -> Topic:
    r, predictor = results["zero_cost"], results["zero_cost_predictor"]
    peers = listed(*(f"{n} {fixed(r.row(n)['Spearman'], 2)}" for n in ("macs", "params")))
    rows = [
        Row(
            f"Spearman of `{row['ranked by']}` with accuracy after 12 epochs, "
            f"{r.settings['cells']} cells of NAS-Bench-201",
            fixed(row["Spearman"], 2),
            f"{peers}; papers report {row[PAPERS]} after 200 epochs"
            if row[PAPERS] != "-"
            else peers,
            r.command,
        )
        for row in r.rows
        if row["ranked by"] not in ("macs", "params")
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
            "scale: the network made by hand is better after no more time in all. Part of the "
            "search's time goes into the supernet and the race. The search on CIFAR-10 used the "
            "strategy `nsga2`. Pruning to a target meets the target; the differences from an even "
            "narrowing have both signs and are within the noise of few seeds.",
        ],
    )
