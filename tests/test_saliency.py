import numpy as np
import pytest
from benchmarks import saliency


@pytest.mark.parametrize("ground", [(10, 10, 10), (90, 160, 80), (255, 255, 255)])
def test_an_object_that_differs_from_the_border_stands_out(ground):
    """On a plain and a noisy background, and with any colours."""
    noise = np.random.default_rng(0).integers(-8, 9, (32, 32, 3))
    image = np.clip(np.array(ground) + noise, 0, 255)
    image[10:22, 8:24] = (200, 40, 120) + noise[10:22, 8:24]
    truth = np.zeros((32, 32), bool)
    truth[10:22, 8:24] = True
    mask = saliency.salient(np.uint8(image))
    assert np.mean(mask == truth) > 0.97


def test_an_image_of_one_colour_has_a_mask():
    assert saliency.salient(np.full((32, 32, 3), 7, np.uint8)).shape == (32, 32)


def test_otsu_splits_two_groups_between_them():
    values = np.array([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])
    assert 2.0 <= saliency.otsu(values) < 10.0
