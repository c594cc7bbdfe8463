"""Pictures of what a network makes of images: attention, components of features, reconstructions."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ssl_jax import augment, data, parallel
from ssl_jax.method import Batch, PyTree
from ssl_jax.report import pictures
from ssl_jax.run import Run
from ssl_jax.see import attention, components, reconstructions, removal, similarity
from ssl_jax.see.sheet import Sheet

__all__ = ["SHEETS", "Sheet", "write"]

SHOWN = 8  # images
SHEETS: Mapping[str, Sheet] = {  # a row is drawn as NAME.png, whose title in the report is in `report.run.PICTURES`
    "attention": attention.SHEET,
    "components": components.SHEET,
    "reconstructions": reconstructions.SHEET,
    "removal": removal.SHEET,
    "similarity": similarity.SHEET,
}


def write(
    run: Run,
    mesh: jax.sharding.Mesh,
    params: PyTree,
    state: Any,
    folder: pathlib.Path,
    source: data.Source | None = None,
) -> None:
    """Draws the sheets that apply to a run; all devices compute, the first process draws.

    Args:
        run: the run.
        mesh: the devices.
        params: of the method, on the mesh.
        state: of the method, on the mesh.
        folder: where NAME.png is written for each sheet.
        source: the images to show some of; None: the test images, or those trained on if there are none.
    """
    source = source or run.test or run.source
    shown = np.linspace(0, len(source) - 1, min(SHOWN, len(source)), dtype=np.int32)  # they may be sorted by class
    raw = parallel.replicate(mesh, data.read(source, shown, run.canvas))
    compiled = functools.partial(jax.jit, out_shardings=parallel.replicated(mesh))
    batch = compiled(functools.partial(observed, run))(raw)
    images = parallel.gather(compiled(functools.partial(augment.denormalize, run.recipe))(batch["image"]))
    for name, sheet in SHEETS.items():
        if sheet.applies(run, source.fields):
            found = parallel.gather(compiled(functools.partial(sheet.compute, run))(params, state, batch))
            if jax.process_index() == 0:
                sheet.draw(pictures.levels(images), found).save(folder / f"{name}.png")


def observed(run: Run, raw: Batch) -> Batch:
    """Returns a raw batch with the images, and the masks if it has them, as evaluation sees them."""
    size, crop = run.config.data.size, run.config.evaluate.crop
    batch = raw | {"image": augment.center(run.recipe, raw, size, crop)}
    return batch | {"mask": augment.center_mask(raw, size, crop)} if "mask" in raw else batch
