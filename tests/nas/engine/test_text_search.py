"""Searches on text and on labelled sentences, from data to the exported winner."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer

import nas
from evaluators.data.sentences import SentenceData
from evaluators.data.text import TextData
from nas.cli import main
from nas.engine.dry_run import plan
from nas.engine.pools import candidate_training
from nas.engine.search import Outcome, search
from nas.run import specification as spec
from nas.run.folder import Run
from nas.run.objectives import Objective
from nas.task.starting_weights import fresh_supernet, inherited_from
from nas.task.task import Task
from nas.workers.actors import shared_evaluator
from nas.workers.tune.frontier_asha import FrontierASHA
from search_spaces.catalogue import samples_of
from search_spaces.errors import UserError

OWN_SPACE = """
from search_spaces.spaces.gpt import Preset, decoder

def small(vocabulary):
    contexts, widths, heads = (8, 16), (16, 32), (1, 2)
    ranges = Preset(vocabulary, contexts, widths, (1, 2), heads, (1,), (16, 32), 8, True, False)
    return decoder("small", ranges)
"""
BUDGET = 60_000


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of words in a fixed order of their lengths, which is easily learnt."""
    rng = np.random.default_rng(0)
    words = ["a", "to", "the", "that", "there"]
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(" ".join(words[i] for i in rng.integers(5, size=3000)))
    return path


@pytest.fixture(scope="module")
def settings(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("space") / "own_decoder_of_a_test.py"
    file.write_text(OWN_SPACE)
    return {
        "space": f"{file}:small",
        "data": str(text),
        "high": {"macs": BUDGET},
        "trials": 8,
        "supernet_epochs": 1,
        "train_epochs": 3,
        "batch_size": 32,
    }


@pytest.fixture(scope="module")
def finished(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return search(spec.make(settings), tmp_path_factory.mktemp("finished") / "run")


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


# Language models


def test_a_text_is_searched_by_its_loss_within_the_budget(finished: Outcome) -> None:
    assert finished.run.objectives == (Objective("loss", False), Objective("macs", False))
    evaluations = finished.run.evaluations()
    assert len({e.arch for e in evaluations}) == 8
    assert all(e.metrics["macs"] <= BUDGET for e in evaluations)
    guess = math.log(finished.task.data.space_options["vocabulary"])
    assert min(e.metrics["loss"] for e in evaluations) < guess
    assert 0 < finished.summary.hypervolume < 1
    for cheap, dear in pairwise(finished.frontier):
        assert cheap.metrics["macs"] < dear.metrics["macs"]
        assert cheap.metrics["loss"] > dear.metrics["loss"]


def test_scores_are_those_of_the_subnets_at_their_own_context(finished: Outcome) -> None:
    task = finished.task
    assert isinstance(task.data, TextData)
    supernet = fresh_supernet(task)
    evaluator = inherited_from(supernet, task)
    for arch in (task.space.smallest, task.space.largest):
        context = task.space.input_shape(arch)[0]
        ids = task.data.validation[: len(task.data.validation) // context * context + 1].long()
        whole = (len(task.data.validation) - 1) // context * context
        with torch.no_grad():
            logits = supernet.extract(arch).eval()(ids[:whole].view(-1, context))
        nats = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[1 : whole + 1], reduction="mean"
        )
        assert evaluator(arch) == {"loss": pytest.approx(nats.item(), rel=1e-4)}


def test_the_winner_of_the_race_is_the_one_with_the_least_loss(finished: Outcome) -> None:
    raced = {e.id: e.after_race for e in finished.summary.finalists}
    front = sorted(finished.frontier, key=lambda e: e.metrics["loss"])
    assert list(raced) == [e.arch.id for e in front[:4]]
    if len(raced) > 1:
        assert raced[finished.winner.arch.id] == min(raced.values())
    assert finished.run.find("best").arch == finished.winner.arch


def test_the_winner_loaded_back_has_the_test_loss_of_the_summary(finished: Outcome) -> None:
    network = nas.load(finished.run.folder / "winner")
    data, winner = finished.task.data, finished.summary.to_json()["winner"]
    shape = tuple(network.config["input_shape"])
    score = data.score(network, "test", shape)
    assert score["loss"] == pytest.approx(winner["test_loss"], rel=1e-4)
    assert winner["test_tokens"] == data.extent("test")
    assert network.config["metrics"] == {k: winner[k] for k in ("test_loss", "test_tokens")}
    # It has learnt: after a letter of a word, mostly the next one is certain.
    assert winner["test_loss"] < 0.8 * winner["validation_loss"]


def test_the_exported_network_takes_ids_of_its_characters(finished: Outcome) -> None:
    folder = finished.run.folder / "winner"
    network = nas.load(folder)
    characters = network.config["characters"]
    words = " there that to the a there that to the a"[: network.config["input_shape"][0]]
    ids = torch.tensor([[characters.index(c) for c in words]])
    with torch.no_grad():
        expected = network(ids)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (given,) = session.run(None, {"tokens": ids.numpy()})
    torch.testing.assert_close(torch.from_numpy(given), expected, rtol=1e-3, atol=1e-4)
    said = [characters[i] for i in expected[0].argmax(dim=1).tolist()]
    assert said[words.index("ther") + 3] == "e"


def test_the_same_seed_gives_the_same_frontier(
    finished: Outcome, settings: dict[str, Any], tmp_path: Path
) -> None:
    again = search(spec.make({**settings, "train_epochs": 0}), tmp_path / "run")
    assert [e.metrics for e in again.frontier] == [e.metrics for e in finished.frontier]
    assert [e.arch for e in again.run.evaluations()] == [e.arch for e in finished.run.evaluations()]


def test_what_is_printed_names_the_loss(
    finished: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(finished.run.folder)
    assert run("frontier", folder) == 0
    printed = capsys.readouterr().out
    assert printed.index("loss") < printed.index("FLOPs")
    assert "context" in printed
    assert run("frontier", folder, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == [e.arch.id for e in finished.frontier]
    assert run("show", folder, "knee") == 0
    assert "loss" in capsys.readouterr().out
    arguments = ["--arch", rows[0]["id"], "--epochs", "0.5", "--quiet"]
    assert run("train", folder, *arguments, "--out", str(tmp_path / "trained")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"on {finished.task.data.extent('test')} tokens the search never saw" in printed
    assert f"{rows[0]['id']}: test loss " in printed
    exporting = ["--arch", rows[0]["id"], "--out", str(tmp_path / "taken")]
    assert run("export", folder, *exporting, "--format", "safetensors") == 0
    assert nas.load(tmp_path / "taken").config["space"] == "small"


def test_a_plan_says_how_long_it_would_take(settings: dict[str, Any]) -> None:
    found = plan(Task.of(spec.make(settings)))
    assert found.supernet_seconds > 0
    assert found.search_seconds > 0
    assert found.winner_seconds > 0


def test_candidates_trained_from_scratch_report_their_loss(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    specification = spec.make({**settings, "evaluator": "train"})
    (tmp_path / "specification.json").write_text(spec.to_json(specification))
    task = Task.of(specification)
    train = candidate_training(task, Run(tmp_path))
    reports: list[dict[str, Any]] = []
    train(task.space.smallest, reports.append)
    assert [r["epochs"] for r in reports] == [1.0, 3.0]
    losses = [r["loss"] for r in reports]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < math.log(task.data.space_options["vocabulary"])


def test_the_scheduler_ends_who_has_the_larger_loss() -> None:
    scheduler = FrontierASHA(2, lambda trial: [1.0], Objective("loss", maximise=False))

    class Trial:
        def __init__(self, name: str) -> None:
            self.trial_id = name

    decisions = [
        scheduler.on_trial_result(None, Trial(str(i)), {"loss": loss, "rung": 1})  # type: ignore[arg-type]
        for i, loss in enumerate((2.0, 1.0, 3.0, 0.5))
    ]
    assert decisions == ["CONTINUE", "CONTINUE", "STOP", "CONTINUE"]


# Sentences


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    rng = np.random.default_rng(0)
    fill = ["the", "play", "with", "its", "many", "scenes", "was", "long", "and", "old"]
    lines = ["text,label"]
    for index in range(300):
        words = list(rng.choice(fill, rng.integers(3, 9)))
        words.insert(int(rng.integers(len(words))), ("dull", "fine")[index % 2])
        lines.append(f"{' '.join(words)},{('bad', 'good')[index % 2]}")
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "plays.csv").write_text("\n".join(lines) + "\n")
    specification = spec.make(
        {
            "space": "bert-mini",
            "data": str(folder / "plays.csv"),
            "high": {"macs": 3_000_000},
            "trials": 3,
            "strategy": "random",
            "supernet_epochs": 0.2,
            "train_epochs": 8,
            "finalists": 1,
            "batch_size": 16,
        }
    )
    return search(specification, folder / "run")


def test_labelled_sentences_are_searched_by_accuracy_and_learnt(labelled: Outcome) -> None:
    winner = labelled.summary.to_json()["winner"]
    assert isinstance(labelled.task.data, SentenceData)
    assert len({e.metrics["macs"] for e in labelled.run.evaluations()}) == 3
    assert winner["macs"] <= 3_000_000
    assert winner["test_accuracy"] > 0.9
    assert winner["test_sentences"] == 30


def test_the_exported_tokenizer_makes_the_networks_inputs(labelled: Outcome) -> None:
    folder = labelled.run.folder / "winner"
    network = nas.load(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    sentences = ["the long play was fine", "many scenes dull and old with the play was its old"]
    ids = torch.tensor([e.ids for e in tokenizer.encode_batch(sentences)])
    assert list(ids.shape[1:]) == network.config["input_shape"]
    with torch.no_grad():
        logits = network(ids)
    assert [network.config["classes"][i] for i in logits.argmax(dim=1)] == ["good", "bad"]
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (given,) = session.run(None, {"tokens": ids.numpy()})
    torch.testing.assert_close(torch.from_numpy(given), logits, rtol=1e-3, atol=1e-4)


# What is refused


def test_bad_input_is_one_line_and_leaves_nothing(
    settings: dict[str, Any],
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "short.txt").write_text("too short a text " * 9)
    small, words = str(settings["space"]), str(text)
    for arguments, message in (
        (["--space", "gpt-char"], "space gpt-char needs --data: tinyshakespeare or a text file"),
        (["--space", "bert"], "space bert needs --data: a parquet, CSV or JSON-lines file with a"),
        (["--space", "mobilenet", "--data", words], "is not a Parquet file or a folder"),
        (["--space", "gpt-char", "--data", "digits"], "unknown text 'digits'"),
        (
            ["--space", "gpt-char", "--data", str(tmp_path / "short.txt")],
            "train part has 123 tokens, expected more than 256, the longest context of gpt-char",
        ),
        (
            ["--space", small, "--data", str(tmp_path / "short.txt")],
            "validation part has 15 tokens, expected more than 16, the longest context of small",
        ),
        (
            ["--space", "gpt-char", "--data", words],
            "training windows of 256 tokens, fewer than a batch of 64: expected --batch-size",
        ),
        (["--space", small, "--data", words, "--strategy", "darts"], "small takes text"),
        (["--space", small, "--data", words, "--evaluator", "naswot"], "small takes text"),
        (["--space", small, "--data", words, "--proxies", "naswot"], "small takes text"),
        (["--space", small, "--data", words, "--augment", "flip"], "--augment is for images"),
        (["--space", small, "--data", words, "--image-size", "8"], "--image-size is for images"),
        (
            ["--space", small, "--data", words, "--objective", "accuracy"],
            "unknown objective 'accuracy': (known: loss, macs",
        ),
        (
            ["--space", small, "--data", words, "--objective", "greenscore"],
            "unknown objective 'greenscore'",
        ),
        (
            ["--data", "digits", "--batch-size", "1080"],
            "digits has 1079 training images, fewer than a batch of 1080: expected --batch-size",
        ),
        (
            ["--data", "digits", "--batch-size", "600", "--strategy", "darts"],
            "539 training images in each half, fewer than a batch of 600",
        ),
    ):
        assert run("search", *arguments, "--out", str(tmp_path / "out")) == 2, arguments
        said = capsys.readouterr().err
        assert message in said, arguments
        assert said.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_what_is_for_images_only_is_refused_in_a_run_of_text(
    finished: Outcome, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(finished.run.folder)
    assert run("train", folder, "--arch", "best", "--target-flops", "20k", "--quiet") == 2
    assert "expected a space of images; small takes text" in capsys.readouterr().err
    assert run("leaderboard", folder) == 2
    assert "no network has an accuracy" in capsys.readouterr().err


def test_what_a_space_takes_is_read_off_its_function(settings: dict[str, Any]) -> None:
    assert samples_of(settings["space"]) == "text"
    assert samples_of("bert-mini") == "sentences"
    assert samples_of("vit") == "images"
    with pytest.raises(UserError, match="unknown space 'gtp': did you mean 'gpt'"):
        samples_of("gtp")


def test_workers_score_as_this_process_does_and_see_the_validation_part_alone(
    finished: Outcome,
) -> None:
    task = finished.task
    evaluator = inherited_from(fresh_supernet(task), task)
    sent = shared_evaluator(evaluator).rebuild()
    assert sent(task.space.smallest) == evaluator(task.space.smallest)
    assert [sent.data.extent(part) for part in ("train", "test")] == [0, 0]
