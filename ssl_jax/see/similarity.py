"""How similar each patch of an image is to a text."""

import jax

from ssl_jax.data.tokenizer import detokenize
from ssl_jax.evaluate.segmentation import attends
from ssl_jax.language import embed_text, patch_similarity
from ssl_jax.patches import enlarge
from ssl_jax.report import pictures
from ssl_jax.report.pictures import Cell
from ssl_jax.see.attention import heat
from ssl_jax.see.sheet import Sheet


def applies(run, fields) -> bool:
    return run.method.needs_text and attends(run) and "text" in fields


def compute(run, params, state, batch):
    """Returns for each image its first caption, int [N, L], and the cosine of it and each patch, [N, H, W]."""
    method, tokens = run.method, batch["text"][:, 0]
    variables, images = method.seen(params, state, batch["image"])
    text = embed_text(method.network, method.text, params, tokens)
    each = jax.vmap(lambda image, text: patch_similarity(method.network, variables, image[None], text[None])[0, :, 0])
    cosine = each(images, text)
    return tokens, enlarge(cosine[:, None], images.shape[1], method.network.encoder.stride)[:, 0]


def draw(images, found):
    """Draws an image and the similarity of its patches to its caption, which is below."""
    rows = []
    for image, tokens, cosine in zip(images, *found, strict=True):
        caption = f"{detokenize(tokens)}: {cosine.min():.2f} to {cosine.max():.2f}"
        rows.append([Cell(image), Cell(heat((cosine - cosine.min())[None])[0], caption)])
    title = "Cosine of patches and caption, from black (the least of an image) to white (the most)"
    return pictures.layout(rows, ["image", "similarity"], title=title)


SHEET = Sheet("a vision transformer that is trained on captions, and images with captions", applies, compute, draw)
