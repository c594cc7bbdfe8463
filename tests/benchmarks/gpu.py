"""One case of `gpu.sh`: the images/s of a whole training step on a GPU, ours or PyTorch's."""

import argparse
import time
from typing import NamedTuple

STEPS = 30
GIB = 2**30


class Case(NamedTuple):
    """A method, an encoder, and the size of its images."""

    method: str
    encoder: str
    size: int
    batch_size: int
    preset: str = "imagenet"
    changes: tuple[tuple[str, str], ...] = ()

    @property
    def overrides(self) -> list[tuple[str, str]]:
        """Returns the changes to the preset, with SGD, as in PyTorch's steps."""
        plain = {"name": "sgd", "variant": "", "rules": "", "eta": ""}
        return [
            ("batch_size", str(self.batch_size)),
            ("data.size", str(self.size)),
            ("data.canvas", str(self.size)),
            ("network.dtype", "bfloat16"),
            *((f"network.encoder.{key}", value) for key, value in ENCODERS[self.encoder].items()),
            *((f"optimizer.{key}", value) for key, value in plain.items()),
            *self.changes,
        ]


ENCODERS = {
    "resnet18": {"name": "resnet18", "stem": "3x3"},
    "resnet50": {"name": "resnet50"},
    "vit_small": {"name": "vit_small", "patch": "16", "size": "224"},
    "vit_base": {"name": "vit_base", "patch": "32", "size": "224"},
}
NO_GAMMA = (("network.encoder.zero_gamma", ""),)  # a field of ResNets, which the preset sets
DECODER = {"width": 512, "depth": 8, "heads": 16}
CASES = {
    "simclr_resnet18": Case("simclr", "resnet18", 32, 512),
    "simclr_resnet50": Case("simclr", "resnet50", 224, 256),
    "byol_resnet50": Case("byol", "resnet50", 224, 256),
    "barlow_twins_vit_small": Case("barlow_twins", "vit_small", 224, 256, changes=NO_GAMMA),
    "dino_vit_small": Case("dino", "vit_small", 224, 64, changes=(("augment.small_views", "8"),)),
    "mae_vit_small": Case("mae", "vit_small", 224, 256),
    "clip_vit_base": Case("clip", "vit_base", 224, 512, "yfcc15m", (("data.context", "77"),)),
}


def ours(case: Case) -> tuple[float, float, float, float]:
    """Returns images/s, GiB of temporaries, the share of augmentation, and the seconds of compilation."""
    import jax
    import numpy as np
    from jax_step import Images

    from ssl_jax import augment, data, parallel
    from ssl_jax.build import build
    from ssl_jax.config import load
    from ssl_jax.train import Trainer

    config = load(f"configs/{case.method}.py:{case.preset}", case.overrides)
    shape = (2 * case.batch_size, case.size, case.size, 3)
    text = data.Text(1, config.data.context) if case.method == "clip" else None
    source = Images(np.random.default_rng(0).integers(0, 256, shape, np.uint8), text)
    run = build(config, source, source)
    trainer = Trainer(run, parallel.make_mesh(jax.devices()[:1]))
    state, batch = trainer.init(), next(trainer.batches(0))
    began = time.perf_counter()
    program = trainer.programs[0].lower(state, batch, trainer.dataset, trainer.key).compile()
    seconds = time.perf_counter() - began
    temporaries = program.memory_analysis().temp_size_in_bytes / GIB

    def steps(count):
        nonlocal state
        for _ in range(count):
            state, metrics = program(state, batch, trainer.dataset, trainer.key)
        return jax.block_until_ready(metrics["loss"])

    raw = data.take(trainer.dataset, batch["index"], run.source, run.canvas)
    seen = jax.jit(lambda key, raw: augment.batch(run.recipe, key, raw, 0))

    def augmentations(count):
        for _ in range(count):
            views = seen(trainer.key, raw)["views"]
        return jax.block_until_ready(views)

    step, augmentation = timed(steps), timed(augmentations)
    return case.batch_size / step, temporaries, augmentation / step, seconds


def timed(run) -> float:
    """Returns the seconds of one of `STEPS` calls, after a few that warm up."""
    run(5)
    began = time.perf_counter()
    run(STEPS)
    return (time.perf_counter() - began) / STEPS


def model_of(case: Case):
    """Returns a case's model in plain PyTorch."""
    import timm
    import torchvision
    from torch import nn
    from torch_step import BYOL, BarlowTwins, SimCLR, resnet18
    from torch_vit import CLIP, DINO, MAE, tower

    whole = {
        "dino": lambda: DINO(tower(case.encoder, case.size), prototypes=65_536),
        "mae": lambda: MAE(tower(case.encoder, case.size), patch=16, **DECODER),
        "clip": lambda: CLIP(tower(case.encoder, case.size)),
    }
    if case.method in whole:
        return whole[case.method]()
    towers = {
        "resnet18": lambda: (resnet18(), 512),
        "resnet50": lambda: (nn.Sequential(*list(torchvision.models.resnet50().children())[:-1], nn.Flatten()), 2048),
        "vit_small": lambda: (timm.create_model("vit_small_patch16_224", num_classes=0), 384),
    }
    return {"simclr": SimCLR, "byol": BYOL, "barlow_twins": BarlowTwins}[case.method](*towers[case.encoder]())


def inputs_of(case: Case, device: str) -> list:
    """Returns what a case's model takes: views, or images and tokens."""
    import torch

    sizes = {"dino": [case.size] * 2 + [96] * 8, "mae": [case.size], "clip": [case.size]}.get(
        case.method, [case.size] * 2
    )
    views = [torch.randn(case.batch_size, 3, size, size, device=device) for size in sizes]
    views = [view.contiguous(memory_format=torch.channels_last) for view in views]
    tokens = [torch.randint(49_408, (case.batch_size, 77), device=device)] if case.method == "clip" else []
    return views + tokens


def torch_step(case: Case, compiled: bool, device: str = "cuda") -> tuple[float, float, float, float]:
    """As `ours`, in plain PyTorch without augmentation; the GiB are the peak minus what the first step leaves."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    model = model_of(case).to(device).to(memory_format=torch.channels_last)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.01, momentum=0.9, weight_decay=1e-4)
    views = inputs_of(case, device)
    forward = torch.compile(model) if compiled else model

    def steps(count):
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16):
                loss = forward(views)
            loss.backward()
            optimizer.step()
            model.after_step()
        torch.cuda.synchronize()

    began = time.perf_counter()
    steps(1)
    seconds = time.perf_counter() - began
    kept = torch.cuda.memory_allocated()
    step = timed(steps)
    return case.batch_size / step, (torch.cuda.max_memory_allocated() - kept) / GIB, 0.0, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("header", "ours", "eager", "compiled"))
    parser.add_argument("case", nargs="?", choices=CASES)
    flags = parser.parse_args()
    if flags.side == "header":
        print("case                    side      images/s   GiB temporary   augmentation   compilation s", flush=True)
        return
    case = CASES[flags.case]
    measured = ours(case) if flags.side == "ours" else torch_step(case, flags.side == "compiled")
    speed, memory, share, seconds = measured
    print(f"{flags.case:23} {flags.side:9} {speed:8,.0f} {memory:15.1f} {share:14.1%} {seconds:15.0f}", flush=True)


if __name__ == "__main__":
    main()
