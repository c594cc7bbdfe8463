"""Which devices take part in a collective, as XLA writes it."""

import re

import numpy as np

IOTA = r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?"
MESH = r"replica_groups=mesh\[([^\]]*)\](?:, ?device_ids=\((.*?)\))? ?\{([^}]*)\}"


def groups(text: str, devices: int) -> np.ndarray:
    """Returns the groups of devices that a collective runs in, by the attributes of the instruction.

    Args:
        text: with the attributes.
        devices: that run the program.

    Returns:
        int [N, D], positions in the flattened mesh. Of a permutation, the pairs of senders and receivers.
    """
    if found := re.search(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]+\})\}", text):
        return np.array([numbers(group) for group in re.findall(r"\{([\d,]+)\}", found[1])])
    if found := re.search(f"replica_groups={IOTA}", text):
        return iota(*found.groups())
    if found := re.search(MESH, text):
        return along_axes(*found.groups())
    return np.arange(devices)[None]


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def iota(shape: str, axes: str, order: str | None) -> np.ndarray:
    """Returns the devices counted along axes, which are then transposed, in a shape."""
    counted = np.arange(np.prod(numbers(axes))).reshape(numbers(axes))
    return (counted.transpose(numbers(order)) if order else counted).reshape(numbers(shape))


def along_axes(mesh: str, assigned: str | None, chosen: str) -> np.ndarray:
    """Returns the groups along some axes of a mesh, or along parts of them.

    Args:
        mesh: names and sizes of the axes, as in "'data'=4,'model'=2".
        assigned: the devices of the mesh in order; None: as they are counted.
        chosen: axes, as in "'model'", or parts "'data':(2)2", the places of a size with others of a size before them.
    """
    sizes = {name: int(size) for name, size in re.findall(r"'?(\w+)'?=(\d+)", mesh)}
    parts = {name: [size] for name, size in sizes.items()}
    last = []  # (name, which of its parts)
    for name, before, size in re.findall(r"'?([A-Za-z_]\w*)'?(?::\((\d+)\)(\d+))?", chosen):
        if size:
            parts[name] = [int(before), int(size), sizes[name] // int(before) // int(size)]
        last.append((name, 1 if size else 0))
    places = [(name, i) for name in sizes for i in range(len(parts[name]))]
    devices = np.arange(np.prod([*sizes.values()]))
    if assigned:
        found = re.search(IOTA, assigned)
        devices = (iota(*found.groups()) if found else np.array(numbers(assigned))).ravel()
    split = devices.reshape([parts[name][i] for name, i in places])
    first = [place for place in places if place not in last]
    moved = split.transpose([places.index(place) for place in first + last])
    return moved.reshape(-1, int(np.prod([parts[name][i] for name, i in last])))
