"""`nas profile`: arguments, the table, JSON, the page, and errors of one line."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from evaluators.counting.hints import hints
from evaluators.counting.torch_counter import count_module
from evaluators.counting.torch_profile import profile_module
from nas.cli import main
from nas.commands.profile import loading
from nas.commands.profile.loading import build_without_memory
from nas.commands.profile.network import Input, parse_input
from search_spaces.errors import UserError

NETWORKS = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.Flatten(),
                         nn.Linear(32 * 16, 10))

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids, scale=None):
        x = self.table(ids)
        return x @ x.transpose(1, 2) if scale is None else x * scale

class Depends(nn.Module):
    def forward(self, x):
        return x[x > 0]

ready = nn.Linear(3, 4)
number = 3

def huge():
    return nn.Sequential(*[nn.Linear(50_000, 50_000) for _ in range(8)])

def broken():
    raise RuntimeError("no luck")

def fourier():
    class F(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x).real
    return nn.Sequential(nn.Linear(8, 8), F())
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "networks_of_a_test.py"
    path.write_text(NETWORKS)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["profile", *map(str, arguments)])
    code = stopped.value.code
    return int(code) if code is not None else 0


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    result: dict[str, object] = json.loads(capsys.readouterr().out)
    return result


def test_a_network_in_a_file_is_counted_and_measured(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = as_json(capsys, f"{file}:small", "--input", "2x3x8x8", "--repeats", 2)
    macs = 2 * (36 * 16 * 27 + 16 * 32 * 144 + 5120)
    assert content["macs"] == macs
    assert content["params"] == 16 * 28 + 32 * 145 + 10 * 513
    assert content["uncounted"] == {}
    tree = content["tree"]
    assert isinstance(tree, dict)
    assert sum(child["macs"] for child in tree["children"]) == macs
    assert tree["forward_seconds"] > 0
    assert tree["backward_seconds"] > 0
    assert all(child["forward_seconds"] > 0 for child in tree["children"])
    assert float(str(content["share_of_peak"])) > 0
    assert content["bound"] in ("compute", "memory")


def test_the_table_names_modules_convention_and_shares(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{file}:small", "--input", "1x3x8x8", "--repeats", 1, "--forward-only") == 0
    out = capsys.readouterr().out
    assert "94,400 FLOPs (convolution 89.3k, linear 5.12k)" in out
    assert "FLOPs are multiply-accumulates" in " ".join(out.split())
    assert "of peak" in out


def test_integer_and_keyword_inputs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = f"{file}:Tokens"
    product = as_json(capsys, target, "--input", "2x5:int64", "--count-only")
    assert (product["macs"], product["inputs"]) == (2 * 5 * 5 * 4, {"input": [2, 5]})
    scaled = as_json(
        capsys, target, "--input", "ids=2x5:int64", "--input", "scale=4", "--count-only"
    )
    assert (scaled["macs"], scaled["elementwise"]) == (0, 40)


def test_a_module_that_can_be_imported(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    content = as_json(capsys, f"{file.stem}:ready", "--input", "7x3", "--repeats", 1)
    assert content["macs"] == 84


def test_a_network_that_does_not_fit_into_memory_is_counted_but_not_measured(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = as_json(capsys, f"{file}:huge", "--input", "1x50000")
    assert content["macs"] == 8 * 50_000**2
    assert str(content["note"]).startswith("not measured: a pass needs about 160 GB")


def test_an_operator_without_a_rule_has_its_share_of_the_time(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = as_json(capsys, f"{file}:fourier", "--input", "64x8", "--repeats", 1)
    gaps = content["uncounted"]
    assert isinstance(gaps, dict)
    assert gaps["aten::_fft_r2c"]["path"] == "1"
    assert 0 < gaps["aten::_fft_r2c"]["share_of_time"] < 1


def test_a_network_that_changes_the_folder_leaves_the_page_where_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    text = f"import os\nos.chdir({str(tmp_path / 'elsewhere')!r})\n"
    made = f"def net():\n    {text.splitlines()[1]}\n    return torch.nn.Linear(2, 3)\n"
    (tmp_path / "moving.py").write_text(f"{text}import torch\n{made}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("moving.py:net", "moving:net"):
        page = f"{name.partition(':')[0]}.html"
        assert run(name, "--input", "1x2", "--repeats", 1, "--html", page) == 0
        assert (tmp_path / page).is_file()


def test_the_page_opens_offline_and_has_every_part(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html = tmp_path / "page.html"
    assert run(f"{file}:small", "--input", "1x3x8x8", "--repeats", 1, "--html", html) == 0
    text = html.read_text()
    for part in ("Compute by module", "Most expensive modules", "Possible savings", "94,400"):
        assert part in text
    assert "<script src=" not in text
    assert "<link" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{file}:smal", "--input", "1"], "unknown name in .*did you mean 'small'"),
        (["no_such_package.nets:f", "--input", "1"], "cannot import 'no_such_package.nets'"),
        (["no_such.py:f", "--input", "1"], "no file 'no_such.py'"),
        (["{file}:number", "--input", "1"], "is of type int: expected a network"),
        (["{file}:broken", "--input", "1"], "fails: RuntimeError: no luck"),
        (["{file}:small"], "needs its input: --input 1x3x224x224"),
        (["{file}:small", "--input", "1x3"], "module '0' fails on the input .input 1x3."),
        (["{file}:small", "--input", "3,3"], "malformed input '3,3': expected sizes such as"),
        (["{file}:small", "--input", "1x0x3"], "malformed input"),
        (["{file}:small", "--input", "1x3:flaot32"], "did you mean 'float32'"),
        (["{file}:Tokens", "--input", "1x3"], "token ids are written 1x3:int64"),
        (["{file}:Depends", "--input", "2x3"], "depends on values of its input"),
        (["small", "--input", "1"], "expected pkg.module:function"),
    ],
)
def test_wrong_input_ends_with_one_line_and_code_2(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(*[a.replace("{file}", str(file)) for a in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert not captured.out


def test_inputs_are_parsed() -> None:
    assert parse_input("1x3x224x224") == Input((1, 3, 224, 224))
    assert parse_input("mask=1x128:bool") == Input((1, 128), torch.bool, "mask")
    with pytest.raises(UserError):
        parse_input("1x3x")


def test_times_of_the_parts_add_up_to_the_whole_pass() -> None:
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    count = profile_module(network, [torch.randn(8, 3, 32, 32)], repeats=3)
    nodes = dict(count.root.walk())
    assert nodes["2"].forward_seconds > nodes["1"].forward_seconds > 0  # type: ignore[operator]
    assert nodes["2"].backward_seconds > 0  # type: ignore[operator]
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert network.training
    assert all(p.grad is None for p in network.parameters())


class Attends(nn.Module):
    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(64, 192)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return (q @ k.transpose(1, 2)).softmax(-1) @ v


def test_hints_have_the_macs_that_a_cheaper_form_saves() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 32, 3)
    )
    found = {h.what: h for h in hints(count_module(network, [torch.zeros(1, 3, 20, 20)]))}
    first = found["first layer: twice the stride, or patches"]
    assert (first.macs, first.saved) == (18 * 18 * 16 * 27, 18 * 18 * 16 * 27 * 3 // 4)
    dense = found["dense 3x3, 16 to 32 channels: depthwise and 1x1"]
    positions = 16 * 16
    assert dense.macs - dense.saved == positions * (9 * 16 + 16 * 32)
    assert found["dense 3x3, 32 to 32 channels: depthwise and 1x1"].paths == ("2", "3")
    attends = hints(count_module(Attends(512), [torch.zeros(1, 512, 64)]))
    windows = next(h for h in attends if "512 tokens" in h.what)
    assert (windows.macs, windows.macs - windows.saved) == (2 * 512**2 * 64, 2 * 512 * 64 * 64)


def pruned() -> nn.Module:
    """As wide as a large mask, which has no memory at first, says."""
    mask = torch.arange(300 * 300).reshape(300, 300) % 3 == 0
    return nn.Linear(4, int(mask.sum()) // 1000)


def test_a_constructor_may_read_values_of_large_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_without_memory(pruned, "nets.py:pruned")
    assert count_module(network, [torch.zeros(1, 4)]).macs == 4 * 30
    monkeypatch.setattr(loading, "available_bytes", lambda: 0)
    with pytest.raises(UserError, match="reads values of its weights while it is built"):
        build_without_memory(lambda: nn.Linear(4, 1 + int(torch.ones(300, 300).sum())), "nets.py:n")


ENDING = """
import sys
import torch
from torch import nn

def ends():
    sys.exit(0)

class EndsLater(nn.Module):
    def forward(self, x):
        sys.exit(0)

class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        for _ in torch.arange(3).tolist():
            x = self.layer(x)
        return x
"""


@pytest.mark.parametrize("name", ["ends", "EndsLater"])
def test_code_that_ends_the_program_is_no_success(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ending.py").write_text(ENDING)
    with pytest.raises(SystemExit) as ended:
        main(["profile", f"{tmp_path / 'ending.py'}:{name}", "--input", "1x4", "--json"])
    assert ended.value.code == 2
    assert "SystemExit" in capsys.readouterr().err


def test_a_pass_may_count_with_tensors_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ending.py").write_text(ENDING)
    with pytest.raises(SystemExit) as ended:
        main(["profile", f"{tmp_path / 'ending.py'}:Steps", "--input", "2x4", "--json"])
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["macs"] == 2 * 3 * 16


def test_an_input_that_no_memory_holds_is_refused() -> None:
    with pytest.raises(UserError, match="malformed input"):
        parse_input("99999999999x99999999999")
