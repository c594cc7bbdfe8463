"""Plans a config on a topology, or all configs of papers one by one."""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence

import jax
from ml_collections import ConfigDict

from ssl_jax import config as configs
from ssl_jax.errors import UserError
from ssl_jax.plan import page
from ssl_jax.plan.compilation import check, measure
from ssl_jax.plan.estimate import estimate, fits
from ssl_jax.plan.images import anywhere, unseen
from ssl_jax.plan.table import Plan
from ssl_jax.plan.topology import Topology

PUBLISHED = ("imagenet", "yfcc15m")  # presets of the papers, whichever a recipe has


def plan(
    name: str,
    topologies: Sequence[Topology],
    overrides: Sequence[tuple[str, str]] = (),
    images: int | None = None,
    classes: int | None = None,
) -> list[Plan]:
    """Plans a config on topologies, after it was checked on all of them.

    Args:
        name: of the config, FILE or FILE:PRESET.
        topologies: the devices.
        overrides: see `config.load`.
        images: to train on; None: as many as the set has.
        classes: of them; None: likewise.

    Raises:
        UserError: if the config cannot be trained on these devices, or the number of images is not known.
    """
    config = configs.load(name, overrides)
    source = unseen(config, images, classes)
    for one in topologies:
        check(config, source, one)
    found = []
    for one in topologies:
        facts = measure(config, source, one)
        bound = estimate(facts, one.chip) if one.chip and facts.flops else None
        found.append(Plan(titled(name, overrides), config, facts, one.chip, bound))
    return found


def titled(name: str, overrides: Sequence[tuple[str, str]]) -> str:
    """Returns the name of a config with what was changed of it, as in "simclr:imagenet batch_size=256"."""
    file, colon, preset = name.partition(":")
    return " ".join([pathlib.Path(file).stem + colon + preset, *(f"{key}={value}" for key, value in overrides)])


def fill(folder: pathlib.Path, topologies: Sequence[Topology]) -> None:
    """Adds the rows of all published configs that `plans.json` in a folder lacks, and says which it adds."""
    for topology in topologies:
        for name in published():
            known = page.rows(folder)
            if page.has(known, name, topology.name, digest(configs.load(name))):
                continue
            try:
                page.add(folder, as_json(*plan(name, [topology])))
                print(f"{name} on {topology.name}: added")
            except UserError as error:
                print(f"{name} on {topology.name}: {error}")
            jax.clear_caches()


def published() -> list[str]:
    """Returns the recipes of the package with the preset of their paper, as in "byol:imagenet"."""
    found = []
    for path in sorted(configs.recipes(configs.SHIPPED)):
        with configs.importable(configs.SHIPPED):
            presets = configs.execute(pathlib.Path(path)).get_config.presets
        found += [f"{pathlib.Path(path).stem}:{preset}" for preset in PUBLISHED if preset in presets]
    return found


def digest(config: ConfigDict) -> str:
    """Returns a short name of all values of a config, which changes with any of them, in any working directory."""
    here = config.copy_and_resolve_references()
    here.data.source = anywhere(config.data.source)
    return hashlib.sha256(here.to_json().encode()).hexdigest()[:12]


def as_json(one: Plan) -> Mapping:
    """Returns what a plan holds as values of JSON."""
    facts = vars(one.facts) | {"collectives": [row._asdict() for row in one.facts.collectives]}
    result = {"config": one.name, "recipe": digest(one.config), **facts}
    if one.chip:
        result["fits"] = fits(one.facts, one.chip)
    return result | ({"estimate": vars(one.estimate)} if one.estimate else {})
