"""Word pieces: the same in every process, and all characters among them."""

from __future__ import annotations

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from evaluators.data.sentence_files import SPECIAL, learnt, with_length

SENTENCES = [
    "The theory of the thing is that the other things gather.",
    "Neither weather nor leather bothers the mother of the brother.",
    "Gathering together, they thought of rather lengthy methods.",
] * 3


def test_frequent_words_become_whole_and_rare_ones_pieces() -> None:
    tokenizer = learnt(SENTENCES, 120)
    assert tokenizer.encode("the").tokens == ["[CLS]", "the", "[SEP]"]
    _, *pieces, _ = tokenizer.encode("rebother").tokens
    assert len(pieces) > 1
    assert "".join(pieces).replace("##", "") == "rebother"
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3]


def test_the_same_sentences_give_the_same_pieces_in_every_process() -> None:
    """The trainer alone numbers them by a hash map's order, another one in each process."""
    code = (
        "from evaluators.word_pieces import learnt\n"
        f"print(sorted(learnt({SENTENCES!r}, 150).get_vocab().items()))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in range(4)
    }
    assert len(found) == 1


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=40))
def test_nothing_of_what_was_learnt_from_is_unknown(text: str) -> None:
    tokenizer = learnt([text, text], 30)
    assert "[UNK]" not in tokenizer.encode(text).tokens


def test_brackets_and_hashes_of_a_text_are_words_of_it() -> None:
    tokenizer = learnt(["a ##b [CLS] here ##b"] * 2, 200)
    tokens = tokenizer.encode("##b [CLS]").tokens
    assert tokens == ["[CLS]", "#", "#", "b", "[", "cls", "]", "[SEP]"]


def test_sentences_are_filled_up_and_cut() -> None:
    tokenizer = with_length(learnt(SENTENCES, 120), 6)
    short, long = tokenizer.encode_batch(["the", " ".join(SENTENCES)])
    assert short.tokens == ["[CLS]", "the", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert short.ids[3:] == [0, 0, 0]
    assert len(long.ids) == 6
    assert (long.tokens[0], long.tokens[-1]) == ("[CLS]", "[SEP]")
