"""The command that draws what a trained network makes of images: `python -m ssl_jax.see --workdir=DIR`."""

from ssl_jax import command, data, parallel, report, see
from ssl_jax.build import build
from ssl_jax.evaluate import segmentation
from ssl_jax.monitor import writers
from ssl_jax.run import Run
from ssl_jax.schema import complete
from ssl_jax.words import number_of
from ssl_jax.workdir import open_run

ADVICE = "name the workdir of a trained run, as in --workdir=runs/dino"


def main(options) -> None:
    opened = open_run(options.workdir, ADVICE)
    workdir = opened.checkpoints.parent
    folder = command.writable_folder(options.out or workdir)
    run, mesh = build(complete(opened.config), devices=1), parallel.make_mesh()
    masks = options.masks or run.config.data.masks
    wanted = ("mask",) * masks + ("text",) * (run.method.needs_text and not options.images)
    source = images(options.images or run.config.data.source, run, wanted)
    params, state = parallel.replicate(mesh, opened.trained(run))
    see.write(run, mesh, params, state, folder, source)
    print(f"{folder}: images of {source.name} as the run sees them at step {opened.step:,}")
    for name, sheet in see.SHEETS.items():
        print(f"  {name}.png" if sheet.applies(run, source.fields) else f"  no {name}.png: it needs {sheet.needs}")
    if masks and segmentation.attends(run):
        result = segmentation.segmentation(run, mesh, source, params, state)
        writers.save(folder, "segmentation", {"step": opened.step} | result)
        print(
            f"Jaccard index of attention and masks, percent, {number_of(int(result['images']), 'image')}: "
            f"{result['jaccard']:.1f}; random weights {result['random_jaccard']:.1f}; the whole image "
            f"{result['whole_jaccard']:.1f}"
        )
    if not options.out and (workdir / "report.html").exists():
        report.write([workdir])


def images(name: str, run: Run, fields: tuple[str, ...]) -> data.Source:
    """Opens the test images of a source, or its training images if it has no others."""
    how = run.config.data.dir, fields, run.config.data.context, run.reading
    splits = (data.open_source(name, split, *how) for split in ("test", "train"))
    return next(source for source in splits if source is not None)  # every source has a training split


def parser() -> command.Parser:
    parser = command.Parser("see", "Draws what the network of a trained run makes of images, each sheet as a PNG.")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the workdir of a trained run")
    parser.add_argument("--images", metavar="SOURCE", help="images to look at, such as folder:/photos")
    parser.add_argument("--out", metavar="DIR", help="where the sheets go; default: the workdir, and its report.html")
    parser.add_argument(
        "--masks",
        action="store_true",
        help="also compare attention with the masks of the images, into evaluations/segmentation.json; a mask is the "
        "alpha channel in a folder, what is not black in the embedded set",
    )
    return parser


if __name__ == "__main__":
    command.run(main, parser())
