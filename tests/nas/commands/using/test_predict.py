"""`nas predict` and `nas scores`: what they print, and what they refuse in one line."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from nas.cli import main
from nas.engine.search import Outcome
from nas.inference.opening import open_network
from nas.inference.sampling import Sampling


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert not ended.value.code, err
    return out


def test_each_line_of_json_is_a_picture(
    photographed: Outcome, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(photographed.run.folder)
    out = printed(capsys, "predict", folder, str(photos / "disc"), "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    expected = open_network(folder).predict(photos / "disc")
    assert [line["image"] for line in lines] == [one.input for one in expected]
    assert [line["label"] for line in lines] == [one.label for one in expected]
    for line, one in zip(lines, expected, strict=True):
        assert line["probability"] == pytest.approx(one.probability, abs=1e-6)
        assert list(line["probabilities"]) == list(one.probabilities)
    out = printed(capsys, "predict", folder, str(photos / "disc"), "--json", "--top", "2")
    assert {len(json.loads(line)["probabilities"]) for line in out.splitlines()} == {2}


def test_csv_has_a_line_for_each_class(
    photographed: Outcome, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = (str(photographed.run.folder), str(photos / "disc" / "0.jpg"))
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "predict", *where, "--csv", "--top=3"))))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert {row["image"] for row in rows} == {where[1]}
    assert float(rows[0]["probability"]) >= float(rows[1]["probability"])


def test_the_table_has_file_label_and_probability(
    photographed: Outcome, photos: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(photos)
    out = printed(capsys, "predict", str(photographed.run.folder), "disc/0.jpg", "--top", "1")
    (one,) = open_network(photographed.run.folder).predict(photos / "disc" / "0.jpg")
    assert out.splitlines()[1].split() == ["disc/0.jpg", one.label, f"{one.probability:.1%}"]


def test_a_language_model_goes_on_with_a_text(
    language_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, draws = str(language_model), Sampling(tokens=30, seed=4, most=3)
    options = ("--text", "few words, ", "--tokens", "30", "--seed", "4", "--top", "3")
    more = open_network(language_model).generate("few words, ", draws)
    assert printed(capsys, "predict", where, *options) == f"few words, {more}\n"
    line = json.loads(printed(capsys, "predict", where, *options, "--json"))
    assert line == {"text": "few words, ", "continuation": more}
    rows = list(csv.reader(io.StringIO(printed(capsys, "predict", where, *options, "--csv"))))
    assert rows == [["text", "continuation"], ["few words, ", more]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png"], "is a language model: expected --text to go on with"),
        (["--text", "w\u00f6rds"], "does not know the character '\u00f6'"),
        (["--text", ""], "the text to go on with is empty"),
        (["--text", "a", "--temperature", "nan"], "--temperature"),
        (["--text", "a", "--temperature", "-1"], "--temperature"),
        (["--text", "a", "--tokens", "0"], "--tokens"),
    ],
)
def test_what_a_language_model_cannot_go_on_with_is_refused(
    language_model: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(language_model), *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert message in line


def test_settings_of_draws_are_refused_for_classes(
    photographed: Outcome, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(photographed.run.folder), str(photos), "--tokens", "5"])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert "--tokens is for language models" in line


def test_a_prediction_starts_without_torch(photographed: Outcome, photos: Path) -> None:
    code = (
        "import sys\nfrom nas.cli import main\n"
        f"try:\n    main(['predict', {str(photographed.run.folder)!r}, "
        f"{str(photos / 'disc' / '0.jpg')!r}])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'pandas', 'datasets', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_without_a_trained_winner_is_refused_in_one_line(
    scored: Outcome, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["predict", str(scored.run.folder), str(photos)], ["scores", str(scored.run.folder)]):  # fmt: skip  # noqa: E501
        with pytest.raises(SystemExit) as ended:
            main(command)
        (line,) = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2
        assert "has no trained winner" in line


def test_kept_scores_are_shown_and_new_ones_are_computed(
    photographed: Outcome, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(photographed.run.folder)
    kept = json.loads(printed(capsys, "scores", folder, "--json"))
    score = photographed.summary.winner.score
    assert score is not None
    assert (kept["accuracy"], kept["samples"]) == (score.value, score.samples)
    assert kept["interval_95"] == list(score.interval or ())
    out = printed(capsys, "scores", folder)
    assert f"{score.value:.2%}" in out
    if kept["mistakes"]:
        assert kept["mistakes"][0]["name"] in out
    new = json.loads(printed(capsys, "scores", folder, "--data", str(photos), "--json"))
    assert new["samples"] == 200
    assert [one["label"] for one in new["by_class"]] == new["classes"]
