"""Word pieces learnt from sentences with Hugging Face's `tokenizers`, the same for the same ones.

As in BERT (Devlin et al., 2019): lower case, split at spaces and punctuation, then the longest
pieces of each word (Wu et al., "Google's neural machine translation system", 2016).
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
"""Of which the first is what sentences are filled up with, id 0."""

LEAST_COUNT = 2
"""How often a piece must be there to be one."""


def learnt(sentences: Sequence[str], size: int) -> Tokenizer:
    """A tokenizer of at most about `size` pieces, and all characters that there are.

    The trainer numbers the pieces that go on within a word in the order of a hash map, another one
    in each process, and takes lower numbers first where pairs are as frequent. So they are numbered
    before: named as special ones, which they are no longer in what is returned.
    """
    learning = _tokenizer(WordPiece(unk_token="[UNK]"))
    normalizer = BertNormalizer()
    characters = sorted({c for s in sentences for c in normalizer.normalize_str(s)} - {" "})
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=LEAST_COUNT,
        special_tokens=[*SPECIAL, *(f"##{character}" for character in characters)],
        show_progress=False,
    )
    learning.train_from_iterator(sentences, trainer)
    tokenizer = _tokenizer(WordPiece(learning.get_vocab(), unk_token="[UNK]"))
    begin, end = (SPECIAL.index(token) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = BertProcessing(("[SEP]", end), ("[CLS]", begin))
    return tokenizer


def _tokenizer(model: WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer


def with_length(tokenizer: Tokenizer, tokens: int) -> Tokenizer:
    """The tokenizer, in place, so that it fills up or cuts every sentence to so many tokens."""
    tokenizer.enable_padding(length=tokens, pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(tokens)
    return tokenizer
