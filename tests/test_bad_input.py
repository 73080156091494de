"""Bad input to any command: exit code 2 and one line that names it, and nothing is written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.cli import app, main
from pictures import write_export
from users_code import SEARCH, place

SIZES = ("0", "-3M", "nan", "inf", "1e999", "3X", "", "three", "\x07", "9" * 400)
RUN_COMMANDS = (
    "frontier", "report", "leaderboard", "curves", "train", "fidelity", "export --out new",
    "show {} best", "diff {} best knee",
)  # fmt: skip

BAD: list[str] = [
    # Sizes, and numbers without an end or out of range.
    *(f"search --data digits --dry-run --max-flops={size}" for size in SIZES),
    *(f"search --data digits --dry-run --max-params={size}" for size in SIZES[:6]),
    *(f"search --data digits --dry-run --supernet-epochs={x}" for x in ("inf", "nan", "-1", "x")),
    *(f"search --data digits --dry-run --train-epochs={x}" for x in ("inf", "-1", "1e999")),
    *(
        f"search --data digits --dry-run --trials={x}"
        for x in ("0", "-1", "1.5", "x", "1" + "0" * 30)
    ),
    *(f"search --data digits --dry-run --seed={x}" for x in ("-1", "1.5", str(2**64), "x")),
    *(f"search --data digits --dry-run --batch-size={x}" for x in ("0", "1", "-4", "10000000000")),
    *(f"search --data digits --dry-run --learning-rate={x}" for x in ("0", "-1", "nan", "inf")),
    *(f"search --data digits --dry-run --image-size={x}" for x in ("0", "7", "-8", "100000000")),
    *(f"search --data digits --dry-run --ema={x}" for x in ("1", "-0.1", "nan")),
    *(f"search --data digits --dry-run --early-exit={x}" for x in ("100", "-1", "nan")),
    *(f"search --data digits --dry-run --time={x}" for x in ("0", "-3m", "3 weeks ago", "nan")),
    *(f"search --data digits --dry-run --energy={x}" for x in ("0Wh", "-1Wh", "3kg")),
    *(f"search --data digits --dry-run --max-latency={x}" for x in ("0ms", "-1ms", "fast")),
    "search --data digits --dry-run --bins=-1",
    "search --data digits --dry-run --finalists=0",
    "search --data digits --dry-run --workers=-1",
    "search --data digits --dry-run --green-exponents=1",
    "search --data digits --dry-run --green-exponents=nan,1",
    # Names.
    "search --data digits --dry-run --torch-device=nowhere",
    "search --data digits --dry-run --torch-device=cuda:77",
    "search --data digits --dry-run --space=mobilnet",
    "search --data digits --dry-run --space=none.py:x",
    "search --data digits --dry-run --space=binary.py:x",
    "search --data digits --dry-run --strategy=luck",
    "search --data digits --dry-run --evaluator=luck",
    "search --data digits --dry-run --evaluator=plain.py:nothing",
    "search --data digits --dry-run --objective=luck",
    "search --data digits --dry-run --region=atlantis",
    "search --data digits --dry-run --device=abacus",
    "search --data digits --dry-run --augment=luck",
    "search --data digits --dry-run --sampler=luck",
    "search --data digits --dry-run --precision=fp3",
    "search --data digits --dry-run --proxies=luck",
    "search --data nowhere.parquet --dry-run",
    "search --data binary.parquet --dry-run",
    "search --data empty --dry-run",
    "search --data . --dry-run",
    "search --dry-run --config=none.json",
    "search --dry-run --config=broken.json",
    "search --dry-run --config=list.json",
    "search --dry-run --config=deep.json",
    "search --dry-run --config=/dev/zero",
    "search --dry-run --config=binary.py",
    "search --dry-run --config=unknown.json",
    "search --dry-run --config=wrong.json",
    "search --dry-run --config=.",
    "search --dry-run --config=none.toml",
    "search --dry-run --config=broken.toml",
    "search --dry-run --config=deep.toml",
    "search --dry-run --config=broken.yaml",
    "search --dry-run --config=deep.yaml",
    "search --dry-run --config=bomb.yaml",
    "search --dry-run --config=object.yaml",
    "search --dry-run --config=unknown.yaml",
    "search --data digits --dry-run --patience=0",
    "search --data digits --dry-run --patience=soon",
    "search --data digits --dry-run --tensorboard=file.txt",
    "search --data digits --dry-run --wandb=",
    "search --resume",
    "search --resume --out=nowhere",
    "search --data digits --out=file.txt",
    "search --data digits --out=full",
    "search --data digits --learn-from=nowhere --dry-run",
    "search --nothing",
    # Runs.
    *(
        command.format("nowhere") if "{}" in command else f"{command} nowhere"
        for command in RUN_COMMANDS
    ),
    *(command.format("full") if "{}" in command else f"{command} full" for command in RUN_COMMANDS),
    *(
        command.format("broken-run") if "{}" in command else f"{command} broken-run"
        for command in RUN_COMMANDS
    ),
    "show run nothing",
    "show run ''",
    "diff run best nothing",
    "frontier run --sort=luck",
    "frontier run --bins=-1",
    "frontier run --max-flops=-1",
    "frontier run --parquet=.",
    "frontier run --device=abacus",
    "report run --out=.",
    "report run --port=-1",
    "report run --port=100000",
    "report run --serve --out=x.html",
    "report run --device=abacus",
    "leaderboard run --region=atlantis",
    "leaderboard run --green-exponents=x",
    "curves run --tensorboard=file.txt",
    "train run --epochs=-1",
    "train run --epochs=inf",
    "train run --epochs=nan",
    "train run --target-flops=-1",
    "train run --flops-penalty=-1",
    "train run --early-exit=100",
    "train run --arch=nothing",
    "fidelity run --epochs=-1",
    "fidelity run --epochs=0",
    "fidelity run --architectures=0",
    "export run --out=full",
    "export run --out=full --overwrite",
    "export run --out=. --overwrite",
    "export run --out=run --overwrite",
    "export run --out=new --format=luck",
    "export run --out=new --arch=nothing",
    *(f"frontier {name}" for name in ("summary-list", "summary-brace")),
    *(f"show {name} best" for name in ("summary-list", "summary-brace")),
    # Names that are not in UTF-8.
    "search --data=caf\udce9 --dry-run",
    "data caf\udce9.csv",
    "runs caf\udce9",
    "report run --out=caf\udce9.html",
    # Files.
    "compare nowhere full",
    "compare broken.json list.json",
    "compare deep.json deep.json",
    "dynamic nowhere",
    "dynamic full",
    "dynamic dynamic-list",
    "dynamic dynamic-brace",
    "adapt nowhere",
    "count --space=macro --archs=none.jsonl",
    "count --space=macro --archs=binary.py",
    "count --space=macro --archs=list.json",
    "count --space=macro --archs=/dev/zero",
    "count --space=macro --archs=deep.json",
    "count --space=luck --archs=list.json",
    "profile nowhere:x",
    "profile none.onnx",
    "profile binary.onnx",
    "profile binary.keras",
    "profile plain.py:nothing --input=1x3",
    "profile torch.nn:Linear --input=0x3",
    "profile torch.nn:Linear --input=axb",
    "predict nowhere x.png",
    "predict run x.png",
    "predict full x.png",
    "predict binary.onnx x.png",
    "predict trained nothing.png",
    "predict trained no*.png",
    "predict trained empty",
    "predict trained file.txt",
    "predict trained binary.py",
    "predict trained --text=word",
    "predict trained file.txt --text=word",
    "predict trained",
    "predict trained full --top=0",
    "predict trained full --csv --json",
    "scores nowhere",
    "scores run",
    "scores full",
    "scores trained --data=nowhere",
    "scores trained --data=empty",
    "scores trained --data=full",
    "export run --out=new --int8 --format=python",
    "export run --out=new --app --format=python",
    "export run --out=new --app --web-runtime=empty",
    "export run --out=new --web-runtime=empty",
    "runs nowhere",
    "data nowhere.parquet",
    "data digit",
    "data empty",
    "data binary.parquet",
    "data file.txt --html=page.html",
    "data file.txt --image-size=8",
    "data digits --image-size=7",
    "data digits --space=luck",
    "data digits --html=file.txt/page.html",
    "carbon --device=abacus --hours=1",
    "carbon --device=A100",
    "carbon --device=A100 --hours=-1",
    "carbon --device=A100 --hours=inf",
    "carbon --device=A100 --train-flops=-1",
    "carbon --device=A100 --hours=1 --pue=0.5",
    "carbon --device=A100 --hours=1 --utilisation=nan",
    "carbon --device=A100 --hours=1 --intensity=-1",
    "carbon --device=A100 --hours=1 --count=0",
    "device show abacus",
    "device check abacus",
    "device propose --space=luck",
    "device propose --space=macro --number=-1",
    "device propose --space=macro --seed=-1",
    "device fit --name=x --space=macro --from=none.csv",
    "device fit --name=x --space=macro --from=binary.py",
    "device measure --name=x --space=luck",
    "device measure --name=x --space=macro --threads=0",
    "space compare luck",
    "space compare mobilenet cnn --networks=1",
    "space compare mobilenet cnn --epochs=inf",
    "nothing",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with good and bad files, and a run."""
    here, before = tmp_path_factory.mktemp("bad"), Path.cwd()
    os.chdir(here)
    place(here)
    with pytest.raises(SystemExit) as ended:
        main([*SEARCH, "--trials", "4", "--out", "run", "--quiet"])
    assert not ended.value.code
    noise = bytes(range(256)) * 4
    for name in ("binary.py", "binary.parquet", "binary.onnx", "binary.keras"):
        Path(name).write_bytes(noise)
    Path("file.txt").write_text("a file\n")
    for name, text in {
        "broken.json": "{", "list.json": "[]", "deep.json": "[" * 100_000,
        "unknown.json": '{"colour": 3}', "wrong.json": '{"trials": {"a": 1}}',
        "broken.toml": "a = ", "deep.toml": "a = " + "[" * 100_000,
        "broken.yaml": "a: [", "deep.yaml": "[" * 100_000, "unknown.yaml": "colour: 3",
        "bomb.yaml": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "object.yaml": "a: !!python/object/apply:os.getcwd []",
    }.items():  # fmt: skip
        Path(name).write_text(text)
    write_export(Path("trained"))
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full", "thesis.tex").write_text("years of work")
    Path("broken-run").mkdir()
    Path("broken-run", "specification.json").write_text("[]")
    for name, text in {"list": "[]", "brace": "{"}.items():
        shutil.copytree("run", f"summary-{name}")
        Path(f"summary-{name}", "summary.json").write_text(text)
        Path(f"dynamic-{name}").mkdir()
        Path(f"dynamic-{name}", "dynamic.json").write_text(text)
        Path(f"dynamic-{name}", "weights.safetensors").write_bytes(b"")
    yield here
    os.chdir(before)


def files(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("command", BAD)
def test_bad_input_is_one_line(
    folder: Path, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files(folder)
    arguments = ["" if word == "''" else word for word in command.split(" ")]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capfd.readouterr()
    assert ended.value.code == 2, err
    said = err.strip().splitlines()
    assert len(said) == 1, err
    assert said[0].startswith("nas: ")
    assert len(said[0]) < 1000
    assert "Traceback" not in err
    assert out == ""
    assert files(folder) == before


def test_there_are_a_hundred() -> None:
    assert len(set(BAD)) == len(BAD) >= 100


COMMANDS = {
    "search": "search --data digits --dry-run", "data": "data nowhere.parquet",
    "frontier": "frontier run", "report": "report run",
    "leaderboard": "leaderboard run", "curves": "curves run", "train": "train run",
    "predict": "predict run file.txt", "scores": "scores run",
    "fidelity": "fidelity run", "export": "export run --out=new", "dynamic": "dynamic nowhere",
    "adapt": "adapt nowhere", "count": "count --space=macro --archs=list.json",
    "profile": "profile nowhere:x", "carbon": "carbon --device=A100",
    "device check": "device check abacus", "device propose": "device propose --space=luck",
    "device fit": "device fit --name=x --space=macro --from=none.csv",
    "device measure": "device measure --name=x --space=luck",
    "space compare": "space compare luck",
}  # fmt: skip
"""Commands that cannot succeed with the options given, but a dry run."""


def options_with_values(command: str) -> list[str]:
    found: Any = typer.main.get_command(app)
    for word in command.split():
        found = found.get_command(None, word)
        found = getattr(found, "built", found)
    return [
        max(p.opts, key=len)
        for p in found.params
        if p.param_type_name == "option" and not p.is_flag and p.name != "help"
    ]


VALUES = st.one_of(
    st.sampled_from(["", " ", "-1", "0", "1e999", "nan", "-inf", "9" * 400, "/", ".", "..", "~",
                     "\x00", "\x1b[31m", "\ud800", "{}", "[]", "--json", "a=b", "a" * 5000, "日本",
                     "../../../etc/passwd", "/dev/null", "x.py:y", "1;2", "None", "true"]),
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_of_any_option_is_taken_or_refused_in_one_line(
    folder: Path, command: str, data: st.DataObject
) -> None:
    names = options_with_values(command)
    assert names
    option = data.draw(st.sampled_from(names))
    value = data.draw(VALUES)
    writing = ("--out", "--html", "--parquet", "--tensorboard")
    if option in (*writing, "--mlflow", "--wandb", "--ray-address"):
        return  # these write, or connect
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as err,
        pytest.raises(SystemExit) as ended,
    ):
        main([*COMMANDS[command].split(" "), f"{option}={value}"])
    assert ended.value.code in (0, 2, None), (option, value)
    assert "Traceback" not in err.getvalue()
    if ended.value.code == 2:
        said = err.getvalue().strip().splitlines()
        assert len([line for line in said if line.startswith("nas: ")]) == 1, (option, value)
        assert said[-1].startswith("nas: "), (option, value, said)


def test_json_of_a_good_command_is_json(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["frontier", "run", "--json"])
    assert json.loads(capfd.readouterr().out)
