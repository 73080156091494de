"""Files of settings: TOML and YAML say what JSON says, and no file is endless or runs anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.run import specification as spec
from nas.run.settings.files import read_settings
from search_spaces.errors import UserError

JSON = '{"space": "cnn", "trials": 7, "high": {"macs": 300000}, "objectives": ["accuracy"]}'
TOML = 'space = "cnn"\ntrials = 7\nobjectives = ["accuracy"]\n[high]\nmacs = 300_000\n'
YAML = "# a search\nspace: cnn\ntrials: 7\nhigh:\n  macs: 300000\nobjectives: [accuracy]\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", JSON), ("a.toml", TOML), ("a.yaml", YAML), ("a.YML", YAML), ("a.conf", JSON)],
)
def test_all_formats_give_the_same_specification(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "plain.json").write_text(JSON)
    assert spec.read(tmp_path / name) == spec.read(tmp_path / "plain.json")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.toml", "space = ", "at end of document"),
        ("a.toml", "a = " + "[" * 100_000, "nested too deeply"),
        ("a.toml", "a = 1\na = 2\n", "line 2"),
        ("a.yaml", "space: [", "line 1"),
        ("a.yaml", "[" * 100_000, "nested too deeply"),
        ("a.yaml", "- " * 1000 + "x", "nested too deeply"),
        ("a.yaml", BOMB, r"alias \*a0 at line 2: write its value out"),
        ("a.yaml", "a: &a [*a]\n", "alias"),
        ("a.yaml", "a: !!python/object/apply:os.mkdir [made]\n", "python/object"),
        ("a.yaml", "a: 1\n---\nb: 2\n", "several documents"),
        ("a.yaml", "a: \x07\n", "not allowed"),
        ("a.yaml", "# " + "x" * 2**21, "longer"),
        ("a.toml", "# " + "x" * 2**21, "longer"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    with pytest.raises(UserError, match=why) as refused:
        read_settings(Path(name))
    assert name in str(refused.value)
    assert len(str(refused.value)) < 300
    assert not Path("made").exists()


@pytest.mark.parametrize("ending", ["json", "toml", "yaml"])
def test_what_is_no_text_is_refused(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a.{ending}"
    file.write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match=file.name):
        read_settings(file)
    with pytest.raises(UserError, match=f"no file .*none.{ending}"):
        read_settings(tmp_path / f"none.{ending}")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs an endless file")
@pytest.mark.parametrize("ending", ["toml", "yaml"])
def test_an_endless_file_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.{ending}").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="longer than any file of settings"):
        read_settings(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "only words"])
def test_settings_without_names_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match="expected settings by name"):
        spec.read(tmp_path / "a.yaml")


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-10**9, 10**9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner,
                                                                 max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(value=PLAIN)
def test_json_is_yaml(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    file = tmp_path_factory.mktemp("settings") / "a.yaml"
    file.write_text(json.dumps(value))
    assert read_settings(file) == value
