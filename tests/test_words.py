"""Words of messages."""

import pytest

from ssl_jax.words import number_of


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (0, "step", "0 steps"),
        (1, "image", "1 image"),
        (1234, "test image", "1,234 test images"),
        (2, "class", "2 classes"),
        (2, "box", "2 boxes"),
        (3, "batch", "3 batches"),
    ],
)
def test_a_noun_is_of_the_number_before_it(number, noun, said):
    assert number_of(number, noun) == said
