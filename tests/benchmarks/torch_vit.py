"""DINO, MAE and CLIP with vision transformers in plain PyTorch, for `step.py` and `gpu.sh` to compare with."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """A pre-norm transformer block with fused attention."""

    def __init__(self, width: int, heads: int, causal: bool = False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        images, tokens, width = x.shape
        parts = self.qkv(self.norm1(x)).view(images, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*parts.unbind(), is_causal=self.causal)
        x = x + self.output(attended.transpose(1, 2).reshape(images, tokens, width))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer for images of any size; `keep` chooses the patches that it sees."""

    def __init__(self, size: int, patch: int, width: int, depth: int, heads: int):
        super().__init__()
        self.side, self.width = size // patch, width
        self.embed = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, width, self.side, self.side))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, x, keep=None):
        """Returns [N, 1 + patches, width], the class token first."""
        x = self.embed(x)
        positions = self.positions
        if x.shape[-1] != self.side:
            positions = F.interpolate(positions, x.shape[-2:], mode="bicubic")
        x = (x + positions).flatten(2).transpose(1, 2)
        if keep is not None:
            x = x.gather(1, keep[:, :, None].expand(-1, -1, x.shape[2]))
        return self.norm(self.blocks(torch.cat([self.token.expand(len(x), -1, -1), x], 1)))


def tower(name: str, size: int) -> ViT:
    """Returns an encoder by our name for it."""
    patch, width, heads = {"vit_tiny": (4, 192, 3), "vit_small": (16, 384, 6), "vit_base": (32, 768, 12)}[name]
    return ViT(size, patch, width, 12, heads)


class DINO(nn.Module):
    """Views of equal size share a pass; the first two are the teacher's."""

    def __init__(self, encoder: ViT, prototypes: int):
        super().__init__()
        layers = nn.Linear(encoder.width, 2048), nn.GELU(), nn.Linear(2048, 2048), nn.GELU(), nn.Linear(2048, 256)
        last = nn.utils.parametrizations.weight_norm(nn.Linear(256, prototypes, bias=False))
        last.parametrizations.weight.original0.data.fill_(1)
        last.parametrizations.weight.original0.requires_grad_(False)
        self.student = nn.ModuleList([encoder, nn.Sequential(*layers), last])
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("center", torch.zeros(prototypes))
        self.scores = None

    @staticmethod
    def score(network, groups):
        encoder, projector, last = network
        features = torch.cat([encoder(torch.cat(group))[:, 0] for group in groups])
        return last(F.normalize(projector(features), dim=-1))

    def forward(self, views):
        large, small = views[:2], views[2:]
        with torch.no_grad():
            teacher = self.score(self.teacher, [large])
            targets = ((teacher.float() - self.center) / 0.04).softmax(-1).chunk(2)
            self.scores = teacher.float().mean(0)
        student = self.score(self.student, [large, small]).float().div(0.1).log_softmax(-1).chunk(len(views))
        pairs = [
            -(target * scores).sum(-1).mean()
            for i, target in enumerate(targets)
            for j, scores in enumerate(student)
            if i != j
        ]
        return sum(pairs) / len(pairs)

    @torch.no_grad()
    def after_step(self):
        self.center.lerp_(self.scores, 0.1)
        for target, online in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            target.lerp_(online, 0.004)


class MAE(nn.Module):
    """Three quarters of the patches are hidden; the decoder is as wide as ours."""

    def __init__(self, encoder: ViT, patch: int, width: int, depth: int, heads: int):
        super().__init__()
        self.encoder, self.patch = encoder, patch
        self.embed, self.token = nn.Linear(encoder.width, width), nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, encoder.side**2 + 1, width))
        self.decoder = nn.Sequential(*(Block(width, heads) for _ in range(depth)), nn.LayerNorm(width))
        self.output = nn.Linear(width, 3 * patch**2)

    def forward(self, views):
        (images,) = views
        target = F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        order = torch.rand(target.shape[:2], device=images.device).argsort(1)
        visible = order.shape[1] // 4
        x = self.embed(self.encoder(images, order[:, :visible]))
        x = torch.cat([x, self.token.expand(len(x), order.shape[1] - visible, -1)], 1)
        place = order.argsort(1)
        x = torch.cat([x[:, :1], x[:, 1:].gather(1, place[:, :, None].expand(-1, -1, x.shape[2]))], 1)
        prediction = self.output(self.decoder(x + self.positions))[:, 1:]
        error = (prediction - target).square().mean(-1)
        return (error * (place >= visible)).sum() / (len(x) * (order.shape[1] - visible))

    def after_step(self):
        pass


class CLIP(nn.Module):
    """The towers of ViT-B/32: `views` are images and tokens, of which the last of a row ends its text."""

    def __init__(self, encoder: ViT, context: int = 77, width: int = 512, vocabulary: int = 49_408):
        super().__init__()
        self.encoder, self.project = encoder, nn.Linear(encoder.width, 512)
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(1, context, width))
        self.text = nn.Sequential(*(Block(width, 8, causal=True) for _ in range(12)), nn.LayerNorm(width))
        self.project_text = nn.Linear(width, 512, bias=False)
        self.scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))

    def forward(self, views):
        images, tokens = views
        image = F.normalize(self.project(self.encoder(images)[:, 0]).float(), dim=-1)
        text = F.normalize(self.project_text(self.text(self.tokens(tokens) + self.positions)[:, -1]).float(), dim=-1)
        logits = self.scale.exp() * image @ text.T
        partner = torch.arange(len(image), device=image.device)
        return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2

    def after_step(self):
        pass
