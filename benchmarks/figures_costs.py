"""Topics of docs/figures.md about time and cost: counting, latency, workers, files, carbon.

One function each, from the results to the rows of its table. A row's numbers all come from one
result; remarks hold none that was measured. Knows the keys that each benchmark writes, not how a
table is laid out.
"""

from __future__ import annotations


from figures_format import Results, Row, Topic, fixed, listed, percent, sized

OFA, TORCH = "Once-for-All's own count", "torch's counter"
FRESH, TORCH_ONNX = "of it the fresh process", "torch's onnx s"


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
    measured = ("candidates", "supernet_128", "supernet_256")
    scaling = [results[f"ray_scaling_{name}"] for name in measured]
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
        what = f"overhead of the searching process per candidate: {row['what']}"
        found = f"{fixed(row['overhead ms'], 2)} ms"
        if row["busy"]:
            what += f", {row['candidates']} candidates"
            found += (
                f", of it {fixed(row['store ms'], 2)} ms in the study; {fixed(row['first ms'], 2)} "
                f"ms for the first thousand, {fixed(row['last ms'], 2)} ms for the last; workers "
                f"busy {row['busy']} of the time"
            )
        else:
            found += (
                f"; keeps {fixed(r.settings['workers'])} workers busy from {fixed(seconds)} s an "
                "evaluation on"
            )
        rows.append(Row(what, found, "", r.command))
    return Topic(
        "Workers",
        rows,
        [
            "Rows named by a strategy simulate the workers and run the real strategy and study; "
            "rows named Ray use real actors that do nothing."
        ],
    )


def kills(results: Results) -> Topic:
    r = results["kills"]
    killed = [row for row in r.rows if row["kind"] == "kill"]
    ends = [row for row in r.rows if row["kind"] == "end"]
    rows = []
    for mode in dict.fromkeys(row["mode"] for row in killed):
        of = [row for row in killed if row["mode"] == mode]
        runs = [row for row in ends if row["mode"] == mode]
        phases = ", ".join(
            f"{name} {sum(row['phase'] == name for row in of)}"
            for name in dict.fromkeys(row["phase"] for row in of)
        )
        right = sum(
            row["code_right"] and row["command_printed"] and row["cursor_shown"] for row in of
        )
        same = sum(row["result"] in ("equal", "complete") for row in runs)
        rows.append(
            Row(
                f"kills of a search, {mode} ({phases}), each resumed",
                f"{len(of)} kills: {sum(row['lost'] for row in of)} evaluations lost, "
                f"{sum(row['doubled'] for row in of)} doubled, {right} with the right exit code, "
                f"command and cursor; {same} of {len(runs)} runs ended "
                + (
                    "with the digits of an undisturbed run" if mode == "one process" else "complete"
                ),
                "",
                r.command,
            )
        )
    return Topic(
        "Interruptions",
        rows,
        [
            "SIGINT, SIGTERM or SIGKILL at a random moment of each phase. A search by --time and "
            "one on workers are not deterministic, so that their digits are not compared."
        ],
    )


def files(results: Results) -> Topic:
    speed, export = results["report_speed"], results["export"]
    what = f"a run of {fixed(speed.settings['trials'])} evaluations (`{speed.settings['space']}`): "
    rows = [
        Row(
            f"{what}{measured}",
            f"{fixed(row['median'], 1)} {unit} (at most {fixed(row['worst'], 1)})",
            "",
            speed.command,
        )
        for row in speed.rows
        for measured, unit in [row["what"].split(", ")]
        if "of a processor" not in unit
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
                "its ONNX file: time of a pass in onnxruntime as a multiple of the peer's; time to "
                "write it",
                f"{fixed(row['ratio'], 3)} (95 % interval {row['95 %']}); "
                f"{fixed(row['onnx s'], 2)} s",
                f"the file of torch's exporter, in turns; {fixed(row[TORCH_ONNX], 1)} s",
                export.command,
            ),
        ]
    return Topic("Reports and exports", rows)


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


def installation(results: Results) -> Topic:
    setup = results["setup_time"]

    def duration(name: str) -> str:
        row = setup.row(name)
        return f"{fixed(row['seconds'])} s ({fixed(row['processor seconds'])} s of processor time)"

    return Topic(
        "Installation",
        [
            Row(
                "run-time packages into an empty environment, by `make`",
                duration("search"),
                f"pip: {duration('pip')}",
                setup.command,
            ),
            Row(
                "the developers' packages too",
                duration("test"),
                f"pip: {duration('pip-dev')}",
                setup.command,
            ),
        ],
    )
