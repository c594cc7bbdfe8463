"""Training steps in plain PyTorch with Pillow augmentation: what `step.py` compares with."""

import copy
import functools
import multiprocessing
import os
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from augment import host_view
from PIL import Image
from torch import nn
from torch_vit import DINO, MAE, tower


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def resnet18() -> nn.Module:
    """ResNet-18 with the 3x3 stem."""
    blocks, inputs = [], 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    stem = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class ClassToken(nn.Module):
    """A vision transformer's class token as its features."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, x):
        return self.encoder(x)[:, 0]


def mlp(inputs: int, hidden: int, outputs: int, last_norm: bool = False) -> nn.Module:
    last = [nn.BatchNorm1d(outputs)] if last_norm else []
    first = nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()
    return nn.Sequential(*first, nn.Linear(hidden, outputs, bias=False), *last)


class SimCLR(nn.Module):
    def __init__(self, encoder: nn.Module, width: int):
        super().__init__()
        self.network = nn.Sequential(encoder, mlp(width, 512, 128, last_norm=True))

    def forward(self, views):
        z = F.normalize(self.network(torch.cat(views)))
        similarity = z @ z.T / 0.5
        similarity.fill_diagonal_(float("-inf"))
        partner = torch.arange(len(z), device=z.device).roll(len(z) // 2)
        return F.cross_entropy(similarity, partner)

    def after_step(self):
        pass


class BYOL(nn.Module):
    def __init__(self, encoder: nn.Module, width: int):
        super().__init__()
        self.online = nn.Sequential(encoder, mlp(width, 4096, 256))
        self.predictor = mlp(256, 4096, 256)
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, views):
        with torch.no_grad():
            first, second = (self.target(view) for view in views)
        predictions = [self.predictor(self.online(view)) for view in views]
        return sum(2 - 2 * F.cosine_similarity(p, t).mean() for p, t in zip(predictions, (second, first), strict=True))

    @torch.no_grad()
    def after_step(self):
        for target, online in zip(self.target.parameters(), self.online.parameters(), strict=True):
            target.lerp_(online, 0.01)


class BarlowTwins(nn.Module):
    def __init__(self, encoder: nn.Module, width: int, hidden: int = 8192):
        super().__init__()
        layers = [
            part
            for size in (width, hidden)
            for part in (nn.Linear(size, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU())
        ]
        self.network = nn.Sequential(encoder, *layers, nn.Linear(hidden, hidden, bias=False))
        self.norm = nn.BatchNorm1d(hidden, affine=False)

    def forward(self, views):
        x, y = (self.norm(self.network(view)) for view in views)
        correlation = x.T @ y / len(x)
        on = (correlation.diagonal() - 1).square().sum()
        off = correlation.square().sum() - correlation.diagonal().square().sum()
        return on + 0.0051 * off

    def after_step(self):
        pass


class View(NamedTuple):
    """How a view is made of an image."""

    scale: float = 1.0  # its side, as a part of the image's
    blur: float = 0.0  # probabilities
    solarize: float = 0.0
    color: float = 0.8


VIEWS = {
    "simclr": (View(blur=0.5), View(blur=0.5)),
    "byol": (View(blur=1.0), View(blur=0.1, solarize=0.2)),
    "dino": (View(blur=1.0), View(blur=0.1, solarize=0.2), *[View(0.5, blur=0.5)] * 6),
    "mae": (View(color=0.0),),
}


def augment_share(images: np.ndarray, views: tuple[View, ...]) -> list[np.ndarray]:
    """All views of some images: [B, S, S, 3] each."""

    def view(image, scale, *probabilities):
        return host_view(Image.fromarray(image), round(scale * len(image)), *probabilities)

    return [np.asarray([view(image, *settings) for image in images]) for settings in views]


def build(method: str, encoder: str, size: int) -> nn.Module:
    """Returns a method's model for images of this size."""
    if method == "dino":
        return DINO(tower(encoder, size), prototypes=4096)
    if method == "mae":
        return MAE(tower(encoder, size), patch=4, width=192, depth=4, heads=3)
    backbone, width = (resnet18(), 512) if encoder == "resnet18" else (ClassToken(tower(encoder, size)), 192)
    return {"simclr": SimCLR, "byol": BYOL}[method](backbone, width)


def steps(method: str, encoder: str, images: np.ndarray, channels_last: bool) -> dict:
    """Returns what to time: the `whole` step from uint8 images [B, S, S, 3], and the step `without` augmentation."""
    torch.set_num_threads(os.cpu_count())
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = build(method, encoder, images.shape[1]).to(memory_format=layout)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.01, momentum=0.9, weight_decay=1e-4)
    pool = multiprocessing.get_context("spawn").Pool(os.cpu_count())

    def train(views):
        views = [torch.from_numpy(view).permute(0, 3, 1, 2).contiguous(memory_format=layout) for view in views]
        optimizer.zero_grad()
        loss = model(views)
        loss.backward()
        optimizer.step()
        model.after_step()
        return loss.item()

    def augmented():
        shares = [(share, VIEWS[method]) for share in np.array_split(images, os.cpu_count())]
        return [np.concatenate(parts) for parts in zip(*pool.starmap(augment_share, shares), strict=True)]

    fixed = augmented()
    return {"whole": lambda: train(augmented()), "without": functools.partial(train, fixed)}
