"""Predictions on files are those of training's evaluation, from whatever holds the network."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import Metaspace, Whitespace

import nas
from evaluators.costs.tables import CostTables
from evaluators.data.files.sentences import load_sentences
from nas.engine.search import Outcome
from nas.exports.writing import export
from nas.inference.generation import Tokens, generated
from nas.inference.inputs import image_files
from nas.inference.opening import open_network
from nas.inference.predictor import Predictor
from nas.inference.sampling import Sampling
from pictures import SHAPES, write_export, write_pictures
from search_spaces.catalogue import load_space
from search_spaces.errors import UserError
from search_spaces.networks.modules import build


def test_files_of_the_test_part_are_classified_as_in_the_runs_evaluation(
    photographed: Outcome,
) -> None:
    data, run = photographed.task.data, photographed.run
    names = data.names("test")
    assert names is not None
    files = [Path(data.name) / name for name in names]
    predictions = open_network(run.folder).predict_images(files)
    right = sum(one.label == file.parent.name for one, file in zip(predictions, files, strict=True))
    score = photographed.summary.winner.score
    assert score is not None
    assert right == round(score.value * score.samples)
    kept = run.scores()
    assert kept is not None
    assert kept.accuracy == score.value
    wrong = {
        name: one.label
        for name, one, file in zip(names, predictions, files, strict=True)
        if one.label != file.parent.name
    }
    assert {one.name: one.predicted for one in kept.mistakes} == wrong


def test_run_export_and_onnx_file_give_the_same(
    photographed: Outcome, photos: Path, tmp_path: Path
) -> None:
    some = image_files([photos])[::17]
    winner = photographed.run.folder / "winner"
    expected = open_network(photographed.run.folder).image_probabilities(some)
    assert np.allclose(expected.sum(axis=1), 1)
    only_onnx, only_weights = tmp_path / "onnx", tmp_path / "weights"
    for folder, names in (
        (only_onnx, ("model.onnx",)),
        (only_weights, ("config.json", "model.safetensors")),
    ):
        folder.mkdir()
        for name in names:
            shutil.copy(winner / name, folder / name)
    for place in (winner, winner / "model.onnx", only_onnx, only_weights):
        assert np.abs(open_network(place).image_probabilities(some) - expected).max() < 1e-5


def test_a_loaded_network_predicts_and_stays_a_module(photographed: Outcome, photos: Path) -> None:
    network = nas.load(photographed.run.folder)
    expected = open_network(photographed.run.folder).predict(photos / "disc" / "*.jpg")
    given = network.predict(str(photos / "disc" / "*.jpg"))
    assert [one.label for one in given] == [one.label for one in expected]
    assert len(given) == 8
    for one in given:
        assert isinstance(one, nas.Prediction)
        assert one.probability == max(one.probabilities.values())
        assert list(one.probabilities) == sorted(
            one.probabilities, key=lambda label: -one.probabilities[label]
        )
        assert set(one.probabilities) == set(SHAPES)
    again = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    first = given[0]
    assert network.predict(first.input)[0].probability == pytest.approx(first.probability, abs=1e-4)
    assert again.predict(first.input)[0].probability == pytest.approx(1 / len(SHAPES))
    assert network(torch.zeros(1, *network.config["input_shape"])).shape == (1, len(SHAPES))


def test_a_folder_of_classes_is_scored(photographed: Outcome, photos: Path) -> None:
    predictor = open_network(photographed.run.folder)
    scores = predictor.scores(photos)
    predictions = predictor.predict(photos)
    right = sum(one.label == Path(one.input).parent.name for one in predictions)
    assert scores.samples == 200
    assert scores.accuracy == right / 200
    assert all(one.name is not None and (photos / one.name).is_file() for one in scores.mistakes)


def test_a_test_part_alone_is_scored(photographed: Outcome, tmp_path: Path) -> None:
    write_pictures(tmp_path / "data" / "train", 2, seed=3, largest=60)
    write_pictures(tmp_path / "data" / "test", 3, seed=4, largest=60)
    predictor = open_network(photographed.run.folder)
    assert predictor.scores(tmp_path / "data").samples == 15


def test_a_test_part_that_is_not_read_is_not_passed_over(
    photographed: Outcome, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "data" / "train", 2, seed=3, largest=60)
    for shape in SHAPES:
        (tmp_path / "data" / "test" / shape).mkdir(parents=True)
        (tmp_path / "data" / "test" / shape / "1.heic").write_bytes(b"a")
    with pytest.raises(UserError, match="names the test part, but no file that is read is of it"):
        open_network(photographed.run.folder).scores(tmp_path / "data")


def test_a_class_that_the_network_lacks_is_named(photographed: Outcome, tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", 2, seed=3, largest=60)
    (tmp_path / "data" / "disc").rename(tmp_path / "data" / "moon")
    with pytest.raises(UserError, match="class 'moon' is none of the network's: cross, disc"):
        open_network(photographed.run.folder).scores(tmp_path / "data")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a classifier of sentences, with its data beside it."""
    folder = tmp_path_factory.mktemp("reviews")
    words = {"good": ("fine", "great", "lovely"), "bad": ("poor", "awful", "dull")}
    rows = [
        {"text": f"the film was {word} to see, number {number}", "label": label}
        for label, some in words.items()
        for word in some
        for number in range(20)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "reviews.jsonl").write_text(text)
    data = load_sentences(str(folder / "reviews.jsonl"))
    space = load_space("bert-mini", **data.space_options)
    torch.manual_seed(0)
    network = build(space, space.smallest).eval()
    export(network, space.smallest, CostTables(space), data, folder / "export", formats=("onnx",))
    return folder


def test_sentences_are_classified_and_scored(reviews: Path) -> None:
    data = load_sentences(str(reviews / "reviews.jsonl"))
    predictor = open_network(reviews / "export")
    texts = data.names("test")
    assert texts is not None
    ids, _ = data.labelled("test")
    length = predictor.config["input_shape"][0]
    encoded = [one.ids[:length] for one in predictor.tokenizer.encode_batch(list(texts))]
    assert encoded == ids[:, :length].tolist()
    predictions = predictor.predict(list(texts))
    assert {one.label for one in predictions} <= {"bad", "good"}
    scores = predictor.scores(reviews / "reviews.jsonl")
    assert scores.samples == 120
    assert scores.unit == "sentences"
    rows = [json.loads(line) for line in (reviews / "reviews.jsonl").read_text().splitlines()]
    labels = [one.label for one in predictor.predict([row["text"] for row in rows])]
    right = sum(label == row["label"] for label, row in zip(labels, rows, strict=True))
    assert scores.accuracy == right / len(rows)


def test_rows_of_the_test_part_alone_are_scored(reviews: Path, tmp_path: Path) -> None:
    predictor = open_network(reviews / "export")
    rows = [{"text": f"film {i}", "label": ["good", "bad"][i % 2]} for i in range(30)]
    for i, row in enumerate(rows):
        row["split"] = "train" if i < 20 else "test"
    file = tmp_path / "d.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert predictor.scores(file).samples == 10
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[20:]))
    assert predictor.scores(file).samples == 10


@pytest.mark.parametrize("label", [1.5, float("nan"), None, " "])
def test_rows_without_a_class_are_not_scored(reviews: Path, tmp_path: Path, label: object) -> None:
    labels = ["good", "bad", label] if isinstance(label, str) else [0.0, 1.0, label]
    table = pa.table({"text": ["a", "b", "c"], "label": labels})
    pq.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(UserError, match=r"row 2 of train has no label|has the number 1\.5"):
        open_network(reviews / "export").scores(tmp_path / "d.parquet")


def test_images_are_no_input_of_sentences_and_the_other_way_round(
    reviews: Path, photographed: Outcome
) -> None:
    with pytest.raises(UserError, match="classifies sentences: expected --text"):
        open_network(reviews / "export").check(images=True)
    with pytest.raises(UserError, match="classifies images: expected image files"):
        open_network(photographed.run.folder).check(images=False)


def test_a_language_model_has_no_classes(language_model: Path) -> None:
    with pytest.raises(UserError, match="is a language model, which has no classes"):
        open_network(language_model).predict("a few")
    with pytest.raises(UserError, match="expected --text to go on with, not images"):
        open_network(language_model).check(images=True)


def test_a_language_model_goes_on_with_a_text(language_model: Path) -> None:
    """Its most probable continuation is that of the bare network on the text alone."""
    network = nas.load(language_model)
    characters, context = network.config["characters"], network.config["input_shape"][0]
    greedy = Sampling(tokens=context + 3, temperature=0)
    for prompt in ("a", "few words, " * (context // 8)):  # shorter and longer than the context
        ids = [characters.index(one) for one in prompt]
        for _ in range(greedy.tokens):
            window = torch.zeros(1, context, dtype=torch.long)  # its length is fixed
            last = ids[-context:]
            window[0, : len(last)] = torch.tensor(last)
            window[0, len(last) :] = 5  # what stands behind does not matter
            ids.append(int(network(window)[0, len(last) - 1, : len(characters)].argmax()))
        expected = "".join(characters[one] for one in ids[len(prompt) :])
        assert open_network(language_model).generate(prompt, greedy) == expected
        assert network.generate(prompt, tokens=greedy.tokens, temperature=0) == expected


def test_draws_follow_their_seed_and_their_probabilities(language_model: Path) -> None:
    network = open_network(language_model)
    first = network.generate("a", Sampling(seed=1))
    assert first == network.generate("a", Sampling(seed=1)) != network.generate("a", Sampling())
    assert network.generate("a", Sampling(most=1)) == network.generate("a", Sampling(temperature=0))

    def function(ids: np.ndarray) -> np.ndarray:
        return np.log(np.tile([0.7, 0.2, 0.1], (*ids.shape, 1)))

    drawn = generated(
        function, [0], context=4, known=3, sampling=Sampling(tokens=4000, temperature=1.0)
    )
    assert np.allclose(np.bincount(drawn) / 4000, [0.7, 0.2, 0.1], atol=0.03)
    drawn = generated(
        function, [0], context=4, known=3, sampling=Sampling(tokens=4000, temperature=0.5)
    )
    assert np.allclose(np.bincount(drawn) / 4000, np.array([49, 4, 1]) / 54, atol=0.03)
    drawn = generated(
        function, [0], context=4, known=3, sampling=Sampling(tokens=4000, temperature=1.0, most=2)
    )
    assert np.allclose(np.bincount(drawn) / 4000, [7 / 9, 2 / 9], atol=0.03)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    def function(inputs: np.ndarray) -> np.ndarray:
        return np.full((*inputs.shape[:1], 4, 4) if inputs.ndim == 2 else (len(inputs), 2), value)

    config = {"input_shape": [1, 8, 8], "mean": [0.5], "std": [0.5], "classes": ["a", "b"]}
    (picture, *_) = write_pictures(tmp_path / "data", 1, seed=3, largest=60)
    with pytest.raises(UserError, match="outputs are not finite"):
        Predictor("here", config, function, tmp_path).predict([picture])
    for temperature in (0.0, 1.0):
        sampling = Sampling(tokens=2, temperature=temperature)
        with pytest.raises(UserError, match="outputs are not finite"):
            generated(function, [0], context=4, known=3, sampling=sampling)


@pytest.mark.parametrize(
    ("classes", "said"), [(None, "no classes"), ([], "no classes"), (["a", "a"], "of one name")]
)
def test_descriptions_with_classes_that_cannot_be_told_apart_are_refused(
    tmp_path: Path, classes: object, said: str
) -> None:
    write_export(tmp_path / "d")
    config = json.loads((tmp_path / "d" / "config.json").read_text())
    config["classes"] = classes
    if classes is None:
        del config["classes"]
    (tmp_path / "d" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        open_network(tmp_path / "d")


def test_a_text_that_a_language_model_cannot_read_is_refused(
    language_model: Path, photographed: Outcome
) -> None:
    with pytest.raises(UserError, match="does not know the character 'é'"):
        open_network(language_model).generate("é")
    with pytest.raises(UserError, match="the text to go on with is empty"):
        open_network(language_model).generate("")
    with pytest.raises(UserError, match="has classes and does not go on with a text"):
        open_network(photographed.run.folder).generate("a")


def test_an_export_without_a_network_that_runs_here_is_refused(tmp_path: Path) -> None:
    write_export(tmp_path / "export", ("pt2",))
    with pytest.raises(UserError, match="has no network to predict with"):
        open_network(tmp_path / "export")


def test_an_onnx_file_that_says_nothing_about_itself_is_refused(
    photographed: Outcome, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(photographed.run.folder / "winner" / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(UserError, match="does not say how its input is prepared"):
        open_network(tmp_path / "bare.onnx")


def test_each_file_is_predicted_once(photos: Path) -> None:
    given = [photos / "disc", photos / "disc" / "0.jpg", str(photos / "d*" / "1.jp*g")]
    assert len(image_files(given)) == 40
    assert len(image_files([str(photos / "**" / "*.jpeg")])) == 40


def test_files_alone_are_predicted_in_the_callers_rows(photos: Path) -> None:
    first, second = photos / "disc" / "0.jpg", photos / "disc" / "1.jpeg"
    assert image_files([second, first, str(second)]) == [second, first, second]


PIECES = {"[UNK]": 0, "play": 1, "##ing": 2, "the": 3, "game": 4}
MARKED = {"<unk>": 0, "▁to": 1, "▁be": 2, "▁or": 3}


@pytest.mark.parametrize("fixed", [False, True])
def test_pieces_of_words_go_on_as_the_whole_text_reads(fixed: bool) -> None:
    """And a tokenizer that cuts and fills up sentences does neither to a text."""
    words = Tokenizer(WordPiece(PIECES, unk_token="[UNK]"))
    words.pre_tokenizer, words.decoder = Whitespace(), decoders.WordPiece()
    marked = Tokenizer(BPE(MARKED, [], unk_token="<unk>", ignore_merges=True))
    marked.pre_tokenizer, marked.decoder = Metaspace(), decoders.Metaspace()
    for tokenizer in (words, marked) if fixed else ():
        tokenizer.enable_truncation(1)
        tokenizer.enable_padding(length=5)
    tokens = Tokens.of_tokenizer(words)
    assert tokens.encode("the play") == [3, 1]
    assert tokens.continuation([3, 1], [2, 3, 4]) == "ing the game"
    assert tokens.continuation([3], [4]) == " game"
    tokens = Tokens.of_tokenizer(marked)
    assert tokens.encode("to be") == [1, 2]
    assert tokens.continuation([1], [2, 3]) == " be or"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperature": -1.0}, "temperature is -1.0, expected 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan, expected 0 or more"),
        ({"temperature": float("inf")}, "temperature is inf, expected 0 or more"),
        ({"most": 0}, "most is 0, expected 1 or more"),
        ({"tokens": -3}, "tokens is -3, expected 1 or more"),
        ({"seed": -1}, "seed is -1, expected 0 or more"),
    ],
)
def test_draws_without_a_meaning_are_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Sampling(**given)  # type: ignore[arg-type]
