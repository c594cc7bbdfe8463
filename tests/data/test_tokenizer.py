import numpy as np
import pytest

from ssl_jax.data.tokenizer import END, START, VOCABULARY, detokenize, tokenize

# What open_clip's own tokenizer gives, without start and end.
KNOWN = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "A  photo\tof a\ncat ": [320, 1125, 539, 320, 2368],
    "It's a T-shirt/top, isn't it?": [585, 568, 320, 339, 268, 2523, 270, 1253, 267, 2923, 713, 585, 286],
    "2 dogs &amp; 10 cats — naïve café": [273, 3255, 261, 272, 271, 3989, 2005, 1097, 35689, 563, 15304],
    "pneumonoultramicroscopic": [28714, 749, 20253, 9800, 535, 532, 23869],
    "": [],
}


@pytest.mark.parametrize("text", KNOWN)
def test_known_tokens(text):
    ids = [START, *KNOWN[text], END]
    found = tokenize([text], 16)
    assert found.dtype == np.int32 and found.shape == (1, 16)
    assert found[0].tolist() == ids + [0] * (16 - len(ids))


def test_the_vocabulary_ends_with_start_and_end():
    assert (START, END, VOCABULARY) == (49406, 49407, 49408)


def test_a_long_text_is_cut_before_its_end():
    whole, cut = tokenize(["one two three four five"], 12)[0], tokenize(["one two three four five"], 5)[0]
    assert cut.tolist() == [*whole[:4], END]


def test_what_makes_no_difference():
    plain, *others = tokenize(["it's <b> é", "It\u2019s &lt;b&gt; É", "IT'S   <b>\u00a0e\u0301"], 16)
    for other in others:
        np.testing.assert_array_equal(other, plain)


def test_any_text_has_tokens():
    texts = ["日本語 😀", "\x00\x07", "x" * 1000, "½ ² №"]
    for row in tokenize(texts, 300):
        assert row[0] == START and END in row and row.max() == END


@pytest.mark.parametrize("text", ["a photo of a cat", "naïve café — 7", ""])
def test_tokens_become_their_text_again(text):
    assert detokenize(tokenize([text], 16)[0]) == text
