"""Options of `nas search`, generated from `Specification`; help and completion of commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from evaluators.accuracy.zero_cost_proxies import PROXIES
from evaluators.data import augmentation
from evaluators.data.files import images as image_files
from evaluators.data.files import text as text_files
from nas.cli import app, main
from nas.commands import completion
from nas.commands.export import FORMATS
from nas.commands.search import spelling
from nas.commands.settings import descriptions, settings, specification_of
from nas.engine.search import Outcome
from nas.exports.formats import FORMAT_FILES
from nas.run.settings.option import Option
from nas.run.specification import Specification, to_json
from nas.strategies import STRATEGIES
from nas.strategies.optuna_sampler import SAMPLERS
from search_spaces.errors import UserError

TEXT, WHOLE, NUMBER, SWITCH, LIST = "str", "int", "float", "bool", "list[str]"

# As scripts use them; an option may be added, none may go or change.
OPTIONS = {
    **dict.fromkeys(
        (
            *("--space", "--data", "--max-flops", "--min-flops", "--max-params", "--max-memory"),
            *("--max-flops-per-token", "--energy"),
            *("--max-latency", "--max-energy", "--region", "--green-exponents", "--evaluator"),
            *("--time", "--time-limit", "--strategy", "--sampler", "--proxies", "--penalty-metric"),
            *("--estimator", "--sampling", "--distillation", "--precision", "--augment"),
            *(
                "--torch-device",
                "--ray-address",
                "--mlflow",
                "--tensorboard",
                "--wandb",
                "--storage",
            ),
        ),
        TEXT,
    ),
    **dict.fromkeys(
        ("--device", "--learn-from", "--max", "--min", "--objective", "--sampler-option"), LIST
    ),
    **dict.fromkeys(
        (
            "--bins",
            "--trials",
            "--finalists",
            "--batch-size",
            "--image-size",
            "--seed",
            "--patience",
            "--workers",
        ),
        WHOLE,
    ),
    **dict.fromkeys(
        (
            *("--penalty", "--penalty-ramp", "--supernet-epochs", "--early-exit", "--ema"),
            *("--learning-rate", "--train-epochs"),
        ),
        NUMBER,
    ),
    **dict.fromkeys(
        (
            *("--widening/--no-widening", "--compile/--no-compile", "--scratch/--inherited"),
            *(
                "--teacher/--no-teacher",
                "--reuse/--no-reuse",
                "--resume",
                "--dry-run",
                "--trust",
                "--quiet",
                "--json",
            ),
        ),
        SWITCH,
    ),
    "--out": "Path",
    "--config": "Path",
}


def command(*path: str) -> Any:
    """A command of `nas`, built."""
    found: Any = typer.main.get_command(app)
    for name in path:
        found = found.commands[name]
    return found.make_context(" ".join(path), [], resilient_parsing=True).command


def commands() -> Iterator[tuple[str, ...]]:
    """Every command, those of groups too."""
    group: Any = typer.main.get_command(app)
    for name in group.commands:
        inner = getattr(command(name), "commands", None)
        yield from ((name,) if inner is None else (name, sub) for sub in inner or [None])


def help_of(*path: str) -> str:
    found = command(*path)
    return str(
        found.get_help(found.make_context(f"nas {' '.join(path)}", [], resilient_parsing=True))
    )


def test_no_option_of_search_has_gone_or_changed() -> None:
    found = {}
    for option in command("search").params:
        name = "/".join([*option.opts, *option.secondary_opts])
        annotation = option.type_descriptor.annotation
        kind = LIST if option.multiple else annotation.__name__
        found[name] = kind
    assert found == OPTIONS


def test_every_field_is_an_option_but_those_that_bounds_set_or_runs_record() -> None:
    without = {"high", "low", "calibration_images", "version", "study"}
    fields = Specification.model_fields
    assert {s.field for s in settings().values()} == set(fields) - without | {"high", "low"}
    assert set(descriptions()) >= set(fields)
    for name, field in fields.items():
        assert sum(isinstance(m, Option) for m in field.metadata) == (name not in without)


def test_defaults_that_help_shows_are_those_of_the_specification() -> None:
    nothing = specification_of({}, spell=spelling)
    assert nothing == Specification()
    shown = {s.name: s.default for s in settings().values()}
    assert shown["trials"] == str(nothing.trials)
    assert shown["objective"] == ",".join(nothing.objectives)
    assert shown["scratch"] == "inherited"
    assert shown["widening"] == "no-widening"
    assert shown["max_flops"] == "no bound"
    assert shown["space"] == "by data and budget"


def test_known_values_are_those_that_exist() -> None:
    known = settings()
    assert set(known["strategy"].choices) == set(STRATEGIES)
    assert set(known["sampler"].choices) == set(SAMPLERS)
    assert set(known["proxies"].choices) == set(PROXIES)
    assert set(known["evaluator"].choices) == {
        *("supernet", "train", "halving", "table:FILE", "file.py:FUNCTION"),
        *PROXIES,
    }
    assert set(known["augment"].choices) == {*augmentation.AUGMENTATIONS, "none"}
    assert set(known["data"].choices) == {*image_files.IMAGE_SETS, *text_files.TEXT_SETS}
    assert known["sampling"].choices == ("flops", "uniform", "attentive")
    assert known["precision"].choices == ("fp32", "bf16")
    assert set(FORMATS) == set(FORMAT_FILES)


def test_of_two_bounds_of_a_metric_the_tighter_one_holds() -> None:
    for given in ({"max_flops": "300k", "max": ["macs=30M"]}, {"max": {"macs": 300_000}}):
        assert specification_of(given, spell=spelling).high == {"macs": 300_000}
    low = {"min_flops": "3M", "min": ["macs=2M"]}
    assert specification_of(low, spell=spelling).low == {"macs": 3_000_000}
    with pytest.raises(UserError, match="macs has two values"):
        specification_of({"max": ["macs=3M", "macs=30M"]}, spell=spelling)


def test_settings_of_another_strategy_are_refused_in_a_file_as_well(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"strategy": "random", "bins": 3}')
    with pytest.raises(UserError, match="with random it would do nothing"):
        specification_of({}, spell=spelling, config=file)
    file.write_text(to_json(Specification(strategy="random")))  # with the defaults of all
    assert specification_of({}, spell=spelling, config=file).strategy == "random"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"trials": true}', "trials = True: expected a number"),
        ('{"seed": false}', "seed = False: expected a number"),
        ('{"version": true}', "has format True"),
        ('{"trials": 4, "trials": 400}', "'trials' is given twice"),
    ],
)
def test_values_that_json_would_turn_in_silence_are_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UserError, match=said):
        specification_of({}, spell=spelling, config=tmp_path / "c.json")


def test_bounds_of_any_metric_override_those_of_one_option() -> None:
    given = {"max_flops": "3M", "max": ["macs=2M", "slowness=0.5"], "min": ["params=1k"]}
    specification = specification_of(given, spell=spelling)
    assert specification.high == {"macs": 2_000_000, "slowness": 0.5}
    assert specification.low == {"params": 1000}


def test_a_device_has_its_bounds_and_becomes_an_objective() -> None:
    given = {"device": ["V100", "raspberry pi 4"], "max_latency": "5ms", "max_energy": "0.2J"}
    specification = specification_of(given, spell=spelling)
    assert specification.high == {
        "latency_ms_V100": 5,
        "latency_ms_RaspberryPi4": 5,
        "energy_mj_V100": 200,
        "energy_mj_RaspberryPi4": 200,
    }
    assert specification.objectives == (
        *("accuracy", "macs"),
        *("latency_ms_V100", "latency_ms_RaspberryPi4"),
    )
    named = specification_of({**given, "objective": ["accuracy"]}, spell=spelling)
    assert named.objectives == ("accuracy",)


def test_no_augmentation_and_no_proxies_are_written_as_none() -> None:
    specification = specification_of({"augment": "none", "proxies": "none"}, spell=spelling)
    assert specification.augmentation == ()
    assert specification.proxies == ()


def test_help_groups_the_options_the_most_used_headings_first() -> None:
    headings = re.findall(r"^(\w.*):$", help_of("search"), re.MULTILINE)
    assert headings == [
        *("Budget", "Space and data", "Search", "Options of one strategy", "Training"),
        *("Energy and carbon", "Workers", "Output"),
    ]


def test_every_option_with_a_value_shows_its_default() -> None:
    for path in commands():
        for parameter in command(*path).params:
            if parameter.param_type_name == "argument" or parameter.is_flag or parameter.required:
                continue
            has_default = parameter.default is not None or "[default: " in parameter.help
            assert has_default, f"{' '.join(path)} {parameter.opts[0]}"


def test_every_command_has_an_example_that_parses() -> None:
    for path in commands():
        found = command(*path)
        (example,) = re.findall(r"^Example: nas (.*)$", found.help, re.MULTILINE)
        words = shlex.split(example)
        assert tuple(words[: len(path)]) == path
        found.make_context(" ".join(path), words[len(path) :])
        summary = found.help.partition("\n")[0]
        assert len(summary) <= 70, summary


def test_the_list_of_commands_has_each_once_with_the_first_line_of_its_help() -> None:
    text = " ".join(help_of().split())
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        found = command(name)
        summary = found.help.partition("\n")[0].removesuffix(".")
        assert text.count(f"{name} {summary}") == 1


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert not end.value.code
    assert re.fullmatch(r"nas \d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [[], ["device"]])
def test_without_a_command_the_help_is_printed(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    printed = capsys.readouterr()
    assert end.value.code in (0, 2)
    assert "Usage: nas" in printed.out + printed.err


def test_completion_has_spaces_devices_runs_and_architectures(
    finished: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished.run.folder
    monkeypatch.chdir(folder.parent)
    assert completion.spaces("autoformer-s") == ["autoformer-small"]
    assert completion.devices("V1") == ["V100"]
    assert completion.among(("crop", "cutmix"))("crop,cu") == ["crop,cutmix"]
    assert completion.runs(folder.name[:2]) == [folder.name]
    assert completion.runs(f"{folder.name}/") == [
        f"{folder.name}/{path.name}/" for path in sorted(folder.iterdir()) if path.is_dir()
    ]
    assert completion.runs("nowhere/") == []
    context = SimpleNamespace(params={"run": folder})
    known = completion.architectures(context, "")  # type: ignore[arg-type]
    assert known[:2] == ["best", "knee"]
    assert set(known[2:]) == {e.arch.id for e in finished.run.evaluations()}
    context.params["run"] = None
    assert completion.architectures(context, "k") == ["knee"]  # type: ignore[arg-type]


def completions(line: str, cwd: Path) -> tuple[list[str], str]:
    """What the shell is offered for a command line, and the heavy modules that were imported."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print({'torch', 'ray', 'optuna'} & set(sys.modules), "
        "file=sys.stderr))\n"
        "from nas.cli import main\nmain()"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "_NAS_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True
    )
    return done.stdout.split(), done.stderr.strip()


def test_the_shell_completes_names_without_importing_torch(finished: Outcome) -> None:
    folder = finished.run.folder
    for line, expected in (
        ("nas search --strategy evo", ["evolution"]),
        (f"nas show {folder.name} {finished.winner.arch.id[:8]}", [finished.winner.arch.id]),
    ):
        assert completions(line, folder.parent) == (expected, "set()"), line
