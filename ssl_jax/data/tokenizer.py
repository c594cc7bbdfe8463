"""CLIP's tokenizer: text -> byte-pair tokens of fixed length."""

import functools
import gzip
import html
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

VOCABULARY = 49_408  # tokens
START, END = VOCABULARY - 2, VOCABULARY - 1  # END is the largest, by which a network finds where a text ends
MERGES = VOCABULARY - 2 - 2 * 256  # the rest: a token per byte, in a word and at its end, START and END
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
FILE = pathlib.Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")


def tokenize(texts: Sequence[str], context: int) -> np.ndarray:
    """Returns texts as tokens, int32 [N, context]: START, the text, END, and zeros; what is too long is cut before END.

    Args:
        texts: N texts; see `clean` for what makes no difference.
        context: tokens of a text, at least 2.

    Source: CLIP (Radford et al. 2021, arXiv:2103.00020), section 2.4, and its code.
    """
    tokens = np.zeros((len(texts), context), np.int32)
    for row, text in zip(tokens, texts, strict=True):
        ids = [START, *tokenizer().encode(clean(text)).ids[: context - 2], END]
        row[: len(ids)] = ids
    return tokens


def detokenize(tokens: np.ndarray) -> str:
    """Returns the text that `tokenize` made int [context] tokens of, clean and with a space after each word."""
    symbols = (tokenizer().id_to_token(int(token)) for token in tokens[1 : int(np.argmax(tokens))])
    words = "".join(symbols).replace("</w>", " ")
    number = dict(zip(byte_symbols(), byte_order(), strict=True))
    return bytes(number.get(character, ord(" ")) for character in words).decode(errors="replace").strip()


def clean(text: str) -> str:
    """Returns a text in lower case, with single spaces and straight quotes, HTML entities and wrong decoding undone."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


@functools.cache
def tokenizer() -> Any:
    """Returns the byte-pair encoder of a clean text, without START and END."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers  # an image-only run does not need them

    lines = gzip.decompress(FILE.read_bytes()).decode().split("\n")
    merges = [(first, second) for first, second in map(str.split, lines[1 : MERGES + 1])]
    alone = byte_symbols()
    symbols = [*alone, *(symbol + "</w>" for symbol in alone), *map("".join, merges)]
    vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
    encoder = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    symbolize = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([words, symbolize])
    return encoder


def byte_symbols() -> list[str]:
    """Returns the characters that stand for the 256 bytes, in the order of their tokens: the printable bytes first."""
    printable = printable_bytes()
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def byte_order() -> list[int]:
    """Returns the bytes in the order of their tokens."""
    printable = printable_bytes()
    return printable + [byte for byte in range(256) if byte not in printable]


def printable_bytes() -> list[int]:
    return [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
