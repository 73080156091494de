"""The Python interface: `search`, `count`, `profile` and `export`, each in one call.

Arguments have the names of the command line's options, with underscores, and take values as people
write them (`max_flops="300k"`) or as numbers. Wrong ones raise a `UserError` of one line that names
the argument. Does nothing itself: the same functions run behind the command line.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.commands.settings import settings, specification_of
from nas.run.evaluation import Evaluation
from nas.run.folder import Run
from nas.run.results import Summary
from nas.run.specification import Specification
from search_spaces.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from evaluators.counting.counts import Count
    from hardware_profiles.peak import Peak
    from nas.progress import Reporter
    from search_spaces.space import SearchSpace

TABLE_WIDTH, TABLE_DEPTH = 140, 2
"""Columns and levels of modules of a profile's table."""


@dataclass(frozen=True, repr=False)
class Outcome:
    """Result of a search; a notebook shows its frontier as a picture and a table.

    Attributes:
        run: the run folder, opened for reading.
        best: the architecture that the search ended with, and its metrics.
        summary: content of `summary.json`.
        footprint: energy and carbon of the search with their range, in words; None if it was too
            short to measure.
    """

    run: Run
    best: Evaluation
    summary: Summary
    footprint: str | None = None

    @property
    def winner(self) -> Path | None:
        """Folder of the trained, exported network, for `nas.load`; None if nothing was trained."""
        folder = self.run.folder / "winner"
        return folder if folder.is_dir() else None

    def frontier(self) -> pd.DataFrame:
        """The frontier as a pandas frame: one row per architecture, by MACs; see `Run.frame`."""
        return self.run.frontier()

    def __repr__(self) -> str:
        from evaluators.metrics import Metric

        metrics = [o.metric for o in self.run.objectives]
        values = [f"{Metric.of(m).axis} {Metric.of(m).cell(self.best.metrics[m])}" for m in metrics]
        end = self.summary.winner.exits.score if self.summary.winner.exits else None
        end = end or self.summary.winner.score
        return (
            f"{self.best.arch.id} ({', '.join(values)}{'' if end is None else f'; {end}'}) "
            f"of {self.summary.evaluations} architectures in {self.run.folder}"
        )

    def _repr_html_(self) -> str:
        from nas.report.notebook import run_html

        return run_html(self.run, repr(self))


def search(
    specification: Specification | None = None,
    folder: Path | str | None = None,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    config: Path | str | None = None,
    workers: int = 0,
    ray_address: str | None = None,
    tensorboard: str | None = None,
    mlflow: str | None = None,
    wandb: str | None = None,
    quiet: bool = False,
    reporter: Reporter | None = None,
    **given: Any,
) -> Outcome:
    """Search for networks within a budget; train and export the best.

        outcome = nas.search(data="digits", max_flops="300k", out="runs/first")

    Takes the options of `nas search` as arguments, `--max-flops 300k` as `max_flops="300k"`;
    repeatable options take a list (`objective=["accuracy", "params"]`), `max`, `min` and
    `sampler_option` also a dict. Or takes a `Specification` and a folder.

    Args:
        specification: all settings, in place of arguments.
        folder: the run folder, for a specification.
        out: the run folder; by default `runs/DATA-TIME`.
        resume: continue the run in that folder.
        config: a JSON, TOML or YAML file of settings, which arguments override.
        workers: number of Ray workers; 0 runs everything in this process.
        ray_address: address of a Ray cluster for the workers.
        tensorboard: folder of event files to log the learning curves to; `auto`: in the run.
        mlflow: address of an MLflow server or file to log them to.
        wandb: project of Weights & Biases to log them to.
        quiet: print no progress.
        reporter: follows the search in place of the progress on standard error. With a
            `Specification`, nothing is printed unless a reporter is given.
        **given: settings, by the names of the options; `help(nas.search)` lists them.

    Raises:
        UserError: for an argument that does not exist, a value that cannot be used, or a folder
            that cannot be written.
        nas.engine.search.AllFailed: if every evaluation failed.
        nas.engine.search.NothingFeasible: if nothing evaluated is within the budget.
    """
    from nas.commands.options import resources_of
    from nas.commands.show.curves import LogOptions, logged_to
    from nas.progress import Quiet, reporter_for
    from nas.task.new_run import new_folder

    if specification is not None and not isinstance(specification, Specification):
        raise UserError(
            f"specification = {specification!r}: expected a nas.Specification, or settings as "
            "named arguments such as space='mobilenet'"
        )
    for name in given:
        if name not in settings():
            near = get_close_matches(name, _PARAMETERS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "help(nas.search) lists the arguments"
            raise UserError(f"nas.search has no argument '{name}': {hint}")
    if folder is not None and out is not None:
        raise UserError("folder and out are the same argument: expected one of them")
    place = None if (folder or out) is None else Path(str(folder or out))
    if resume and place is None:
        raise UserError("resume needs out, the run to continue")
    if ray_address and not workers:
        raise UserError("ray_address needs workers, the number of actors to use there")
    own = specification is None and reporter is None
    if specification is None:
        specification = specification_of(
            given,
            spell=str,
            config=None if config is None else Path(config),
            resumed=place if resume else None,
        )
    elif given or config is not None:
        names = [*given, *(["config"] if config is not None else [])]
        raise UserError(f"{names[0]}: expected in the specification, which is given too")
    resources_of(workers, ray_address)
    place = place or new_folder(specification)
    if own:
        reporter = reporter_for(quiet=quiet, folder=place)
    from nas.engine import search as engine  # brings torch, which takes seconds

    with logged_to(LogOptions(tensorboard, mlflow, wandb), place):
        found = engine.search(
            specification,
            place,
            workers=workers,
            ray_address=ray_address,
            resume=resume,
            reporter=reporter or Quiet(),
        )
    return Outcome(found.run, found.winner, found.summary, found.footprint)


def count(
    space: str | SearchSpace,
    archs: Mapping[str, Any] | Iterable[Mapping[str, Any]] | Path | str,
) -> list[dict[str, int]]:
    """Count MACs, parameters and peak memory of architectures of a space.

        nas.count("ofa-mbv3", {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5, "r": 224})

    Args:
        space: a name, `file.py:OBJECT`, or a space.
        archs: one architecture or several, each as choices by name or as an encoding of the space's
            paper; or the path of a file with such a JSON object per line.

    Returns:
        For each architecture `macs` (multiply-accumulates of one sample), `params` and `memory`
        (bytes of activations at their peak).

    Raises:
        UserError: for a space that does not exist, or an architecture that is not in it.
    """
    from evaluators.costs.tables import CostTables
    from evaluators.metrics import COUNTED
    from nas.commands.profile.count import read_batches
    from search_spaces.catalogue import load_space
    from search_spaces.reading import BadArchitecture, read_rows

    found = load_space(space) if isinstance(space, str) else space
    batch: list[Mapping[str, Any]]
    if isinstance(archs, Path | str):
        batch = [arch for _, lines in read_batches(Path(archs)) for arch in lines]
    else:
        batch = [archs] if isinstance(archs, Mapping) else list(archs)
    for index, arch in enumerate(batch):
        if not isinstance(arch, Mapping):
            raise UserError(f"archs[{index}]: expected a dict of choices, not {arch!r:.80}")
    try:
        rows = read_rows(found, batch)
    except BadArchitecture as error:
        raise UserError(f"archs[{error.index}]: {error}") from error
    costs = CostTables(found).score(rows)
    columns = [costs[metric].tolist() for metric in COUNTED]
    return [
        {metric: int(value) for metric, value in zip(COUNTED, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


@dataclass(frozen=True)
class Profile:
    """A counted and measured network; printed or in a notebook, the table of `nas profile`.

    Attributes:
        counted: counts of the whole network and of each module.
        peak: peak compute and bandwidth of the device; None if nothing was measured.
        note: why nothing was measured; None if it was, or was not wanted.
    """

    counted: Count = field(repr=False)
    peak: Peak | None = field(default=None, repr=False)
    note: str | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass."""
        return self.counted.macs

    @property
    def params(self) -> int:
        """Number of parameters."""
        return self.counted.params

    def to_json(self) -> dict[str, Any]:
        """Return what `nas profile --json` prints."""
        from nas.commands.profile.table import to_json

        return to_json(self.counted, self.peak, self.note)

    def write_html(self, path: Path | str) -> None:
        """Write the page of `nas profile --html`: one file that opens offline."""
        from nas.commands.profile.page import page
        from search_spaces.files import write_text

        write_text(Path(path), page(self.counted, self.peak, self.note))

    def __str__(self) -> str:
        return self._table(html=False)

    def _repr_html_(self) -> str:
        return self._table(html=True)

    def _table(self, *, html: bool) -> str:
        from nas.commands.profile.table import print_profile
        from nas.commands.show.console import make_console

        console = make_console(record=True, file=io.StringIO(), width=TABLE_WIDTH)
        print_profile(console, self.counted, self.peak, self.note, depth=TABLE_DEPTH)
        if html:
            return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
        return console.export_text()


def profile(
    network: nn.Module | str | Path,
    inputs: Any = (),
    *,
    measure: bool = True,
    backward: bool = True,
    repeats: int = 10,
) -> Profile:
    """Count a network and measure the time of each module, on the device where it is.

        nas.profile(torchvision.models.resnet50(), "1x3x224x224")

    Args:
        network: a PyTorch network, which is not changed; or what `nas profile` takes:
            `pkg.module:function`, `file.py:NAME`, or the path of an ONNX or Keras file.
        inputs: an example input, a list of them, or a dict by name: tensors, or text such as
            `1x3x224x224`, `1x128:int64` or `mask=1x128:bool`.
        measure: run the network, not only count it.
        backward: measure gradients too.
        repeats: number of passes to measure.

    Raises:
        UserError: for a network that cannot be loaded, or that fails on the inputs.
    """
    from hardware_profiles.peak import measured_peak
    from nas.commands.profile.network import Input, profile_network, profile_target

    args, kwargs = _inputs(inputs)
    if isinstance(network, str | Path):
        given = [*args, *kwargs.values()]
        if not all(isinstance(value, Input) for value in given):
            raise UserError(f"inputs of '{network}': expected text such as 1x3x224x224")
        counted, note = profile_target(
            str(network), given, measure=measure, backward=backward, repeats=repeats
        )
        device = "cpu"
    else:
        counted, note = profile_network(
            network, args, kwargs, measure=measure, backward=backward, repeats=repeats
        )
        device = str(next((p.device for p in network.parameters()), "cpu"))
    timed = counted.root.total().forward_seconds is not None
    return Profile(counted, measured_peak(device) if timed else None, note)


def _inputs(inputs: Any) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named inputs; text is parsed, anything else is taken as it is."""
    from nas.commands.profile.network import Input, parse_input

    def one(value: Any) -> Any:
        return parse_input(value) if isinstance(value, str) else value

    if isinstance(inputs, Mapping):
        return [], {name: one(value) for name, value in inputs.items()}
    several = inputs if isinstance(inputs, list | tuple) else [inputs]
    values = [one(value) for value in several]
    named = {v.name: v for v in values if isinstance(v, Input) and v.name is not None}
    return [v for v in values if not (isinstance(v, Input) and v.name is not None)], named


def export(
    run: Run | Path | str,
    arch: str = "best",
    formats: Sequence[str] | str = ("safetensors", "onnx"),
    *,
    out: Path | str,
    int8: bool = False,
    with_preprocessing: bool = False,
    app: bool = False,
    web_runtime: Path | str | None = None,
    overwrite: bool = False,
    quiet: bool = True,
) -> Path:
    """Export a network of a run with a model card and an efficiency record.

        network = nas.load(nas.export("runs/first", "knee", out="taken"))

    Args:
        run: a run, or its folder.
        arch: `best`, `knee`, an id (a unique prefix is enough), or a folder in `RUN/trained`.
        formats: among safetensors, onnx, pt2, python and executorch.
        out: folder to write.
        int8: also write the ONNX file in 8 bits, and measure its accuracy.
        with_preprocessing: also write it with the preprocessing: pixels in, probabilities out.
        app: also write a program and an offline web page that classify pictures.
        web_runtime: folder of the npm package onnxruntime-web; by default npm fetches it.
        overwrite: replace what is in the folder.
        quiet: print no progress.

    Returns:
        The folder.

    Raises:
        UserError: for a name, format or folder that cannot be used.
    """
    from nas.commands.show.export import export_network
    from nas.release.bundle import Extras

    folder = run.folder if isinstance(run, Run) else Path(run)
    names = formats.split(",") if isinstance(formats, str) else formats
    runtime = None if web_runtime is None else Path(web_runtime)
    extras = Extras(int8, with_preprocessing, app, runtime)
    bundle = export_network(
        folder, arch, Path(out), formats=names, extras=extras, overwrite=overwrite, quiet=quiet
    )
    return bundle.folder


def _parameters() -> list[Parameter]:
    """Parameters of `search` with a name for each setting, for `help` and completion."""
    own = signature(search).parameters.values()
    before = [p for p in own if p.kind is not p.VAR_KEYWORD]
    added = [Parameter(s.name, Parameter.KEYWORD_ONLY, default=None) for s in settings().values()]
    return [*before, *added]


_PARAMETERS = [p.name for p in _parameters()]
search.__signature__ = Signature(_parameters(), return_annotation=Outcome)  # type: ignore[attr-defined]
