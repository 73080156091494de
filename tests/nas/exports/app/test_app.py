"""The file with preprocessing, the program and the page say what `nas predict` says."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageOps

from evaluators.data.pixels import Depth
from evaluators.data.preprocessing import Preprocessing
from nas.cli import main
from nas.engine.search import Outcome
from nas.exports.app import pixels_graph, web_runtime
from nas.exports.app import writing as app_folder
from nas.exports.app.pixels_graph import PIXELS_FILE
from nas.inference.inputs import image_files
from nas.inference.opening import open_network
from pictures import deep_png, write_export, write_pictures
from search_spaces.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def runtime() -> Path:
    """onnxruntime-web; the test is skipped where it is neither here nor to be had."""
    try:
        return web_runtime.find()
    except web_runtime.NoRuntime as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def app(photographed: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with an app; without a page where there is no onnxruntime-web."""
    out = tmp_path_factory.mktemp("app") / "out"
    options = ("--format", "onnx", "--app", "--quiet")
    assert run("export", str(photographed.run.folder), "--out", str(out), *options) == 0
    return out


def upright(path: Path) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(path))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def test_two_hundred_photos_of_all_sizes_have_the_same_labels(app: Path, photos: Path) -> None:
    predictor = open_network(app)
    assert predictor.preprocessing.input_size < predictor.preprocessing.image_size
    files = image_files([photos])
    expected = predictor.image_probabilities(files)
    session = onnxruntime.InferenceSession(app / PIXELS_FILE)
    given = np.stack([session.run(None, {"pixels": upright(file)[None]})[0][0] for file in files])
    assert len({upright(file).shape for file in files}) > 100
    assert len(set(expected.argmax(axis=1))) > 2
    assert (given.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert np.abs(given - expected).max() < 0.02


def test_a_batch_is_classified_like_its_pictures(app: Path, photos: Path) -> None:
    one = upright(photos / "disc" / "0.jpg")
    session = onnxruntime.InferenceSession(app / PIXELS_FILE)
    pair = session.run(None, {"pixels": np.stack([one, one[::-1]])})[0]
    alone = session.run(None, {"pixels": one[None]})[0]
    assert np.abs(pair[0] - alone[0]).max() < 1e-6
    assert pair.sum(axis=1) == pytest.approx([1, 1])


def test_a_network_of_grey_images_takes_colours(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "digits")
    predictor = open_network(folder)
    pixels_graph.write(folder / "model.onnx", folder / PIXELS_FILE, predictor.preprocessing)
    files = write_pictures(tmp_path / "pictures", 2, seed=0)
    session = onnxruntime.InferenceSession(folder / PIXELS_FILE)
    for file, expected in zip(files, predictor.image_probabilities(files), strict=True):
        (given,) = session.run(None, {"pixels": upright(file)[None]})
        assert np.abs(given[0] - expected).max() < 1e-3


def test_the_program_needs_only_what_it_lists(app: Path, photos: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(app / "app", tmp_path / "app"))
    names = [line.partition(">=")[0] for line in (folder / "requirements.txt").read_text().split()]
    assert names == ["numpy", "onnxruntime", "pillow"]
    files = image_files([photos])[::23]
    done = subprocess.run(
        [sys.executable, "-I", str(folder / "predict.py"), *map(str, files)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = [line.split("\t") for line in done.stdout.splitlines()]
    expected = open_network(app).predict_images(files)
    assert [line[0] for line in said] == [one.input for one in expected]
    for line, one in zip(said, expected, strict=True):
        assert line[1].rsplit(" ", 1)[0] == one.label
    assert "nas" not in (folder / "predict.py").read_text().split()


def test_the_page_says_the_same_from_a_disk_and_asks_nobody(
    app: Path, runtime: Path, photos: Path
) -> None:
    from playwright.sync_api import sync_playwright

    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser_path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is here (apt-get install chromium)")
    files = image_files([photos])[::19]
    expected = open_network(app).predict_images(files)
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.goto((app / "app" / "index.html").as_uri())
        for file, one in zip(files, expected, strict=True):
            page.set_input_files("#file", str(file))
            page.wait_for_function("document.querySelector('#answer').textContent")
            label, _, share = page.text_content("#answer").partition(" (")
            assert label == one.label, file
            assert float(share.removesuffix(" %)")) == pytest.approx(100 * one.probability, abs=2)
            assert page.locator("#classes tr").count() == 5
        page.set_input_files("#file", str(app / "app" / "labels.json"))
        page.wait_for_function("document.querySelector('#problem').textContent")
        assert "labels.json is not an image" in page.text_content("#problem")
        browser.close()
    assert all(url.startswith(("file:", "blob:")) for url in asked), asked


def test_without_npm_the_app_has_no_page_and_one_line_says_why(
    photographed: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(web_runtime.shutil, "which", lambda name: None)
    options = ("--format", "onnx", "--app", "--quiet")
    out = tmp_path / "out"
    assert run("export", str(photographed.run.folder), "--out", str(out), *options) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no page" in line]
    assert "no page for browsers: npm is not installed" in line
    assert {path.name for path in (out / "app").iterdir()} == {
        *("predict.py", "requirements.txt", "labels.json", PIXELS_FILE),
    }


def fake_npm(folder: Path, script: str) -> None:
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)


def test_npm_fetches_once_and_its_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dist = tmp_path / "package" / "dist"
    dist.mkdir(parents=True)
    for name in (*web_runtime.FILES, "more.js"):
        (dist / name).write_text(name)
    fake_npm(tmp_path / "bad", "echo 'no network' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bad'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(web_runtime.NoRuntime, match="npm cannot fetch onnxruntime-web: no network"):
        web_runtime.find()
    fake_npm(tmp_path / "good", f"tar czf x.tgz -C {tmp_path} package")
    monkeypatch.setenv("PATH", f"{tmp_path / 'good'}{os.pathsep}{os.environ['PATH']}")
    found = web_runtime.find()
    assert found.is_relative_to(tmp_path / "cache")
    assert {path.name for path in found.iterdir()} == set(web_runtime.FILES)
    shutil.rmtree(tmp_path / "good")
    assert web_runtime.find() == found


def test_an_installed_package_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dist = Path("node_modules") / "onnxruntime-web" / "dist"
    dist.mkdir(parents=True)
    for name in web_runtime.FILES:
        (dist / name).write_text(name)
    assert web_runtime.find() == dist
    assert web_runtime.find(dist) == dist
    with pytest.raises(UserError, match="is no onnxruntime-web"):
        web_runtime.find(tmp_path)


def test_labels_of_export_and_app_are_those_of_the_network(app: Path) -> None:
    labels = json.loads((app / "labels.json").read_text())
    assert labels == list(open_network(app).classes)
    assert json.loads((app / "app" / "labels.json").read_text()) == labels


def program(folder: Path, bits: int | None, white: float | None) -> Any:
    """The module `predict.py` of an app whose data had such pixels."""
    path = write_export(folder / f"{bits}-{white}")
    predictor = open_network(path)
    config = {**predictor.config, "bits": bits, "white": white}
    pixels_graph.write(path / "model.onnx", path / PIXELS_FILE, predictor.preprocessing)
    app_folder.write(path, config, None)
    spec = importlib.util.spec_from_file_location("app_program", path / "app" / "predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("bits", "white"), [(None, None), (12, None), (16, None), (None, 255.0)])
def test_the_program_reads_pixels_of_any_kind_as_the_network_was_trained_or_refuses(
    tmp_path: Path, bits: int | None, white: float | None
) -> None:
    files = {name: tmp_path / f"{name}.png" for name in ("colours", "clear", "grey", "alpha")}
    files["colours"].write_bytes(deep_png(2048, 1024, 0))
    files["clear"].write_bytes(deep_png(2048, 1024, 0, 65535))
    files["alpha"].write_bytes(deep_png(2048, 65535))
    Image.fromarray(np.full((8, 8), 2048, np.uint16)).save(files["grey"])
    for value in (0.5, 1.0, 100.0):
        files[f"f{value}"] = tmp_path / f"{value}.tif"
        Image.fromarray(np.full((8, 8), value, np.float32)).save(files[f"f{value}"])
    files["pages"], page = tmp_path / "pages.tif", Image.new("L", (8, 8), 9)
    page.save(files["pages"], save_all=True, append_images=[page])
    made, refused = program(tmp_path, bits, white), []
    for name, file in files.items():
        try:
            given = made.pixels(file)
        except SystemExit:
            refused.append(name)
            continue
        trained = Preprocessing(8, 8, (0.5,) * 3, (0.5,) * 3, Depth(bits, white))
        assert np.array_equal(given, trained.decode(file)), name
    deep = {12: ["colours", "clear", "alpha"], 16: []}.get(bits or 0, ["alpha"])
    assert refused == [*deep, "pages"]
