"""Inputs, weights and comparison helpers for the golden files of E2FGVI beside this file.

The weights and the clip follow from rules (`weight`, `clip`), so only results are stored. Those in
`*_golden.npz` were computed by the published network, MCG-NKU/E2FGVI at 709cbe3, in fp32 on the
CPU: cuts of each stage with statistics of the whole. `*.keys.json` are the names and shapes of the
published checkpoints. Needs numpy only (torch is imported by `state_dict`).
"""

import hashlib
import json
import math
import re
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent

# ---------------------------------------------------------------- weights

# Extra factors on top of the common rule; first matching pattern wins.
SCALES = (
    (re.compile(r"^(encoder|decoder|update_spynet)\..*weight$"), 1.4),
    (re.compile(r"^(encoder|decoder|update_spynet)\..*bias$"), 0.3),
    (re.compile(r"^sc\.embedding\."), 0.1),
)


def rolled_index():
    """The 120 positions kept out of the 4x5x9 corner-shifted windows."""
    keep = []
    for corner, (down, right) in enumerate(((1, 1), (1, 0), (0, 1), (0, 0))):
        for r in range(5):
            for c in range(9):
                new_row = r >= 3 if down else r < 2
                new_col = c >= 5 if right else c < 4
                if new_row or new_col:
                    keep.append(45 * corner + 9 * r + c)
    return np.array(keep, np.int64)


def computed_buffer(name):
    """Value of a state_dict entry that is a constant, or None for a weight."""
    if name == "update_spynet.mean":
        return np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
    if name == "update_spynet.std":
        return np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
    if name.endswith(".attn.valid_ind_rolled"):
        return rolled_index()
    return None


def weight(name, shape, dtype="float32", salt=""):
    """Deterministic pseudo-random value of one state_dict entry."""
    fixed = computed_buffer(name)
    if fixed is not None:
        return fixed
    shape = tuple(shape)
    if "int" in dtype or "bool" in dtype:
        return np.zeros(shape, np.int64)
    rng = np.random.default_rng(zlib.crc32((salt + name).encode()))
    n = rng.standard_normal(shape).astype(np.float32).astype(np.float64)
    if name.endswith("running_var"):
        v = 1.0 + 0.1 * np.abs(n)
    elif name.endswith("running_mean"):
        v = 0.1 * n
    elif len(shape) >= 2:
        v = n / math.sqrt(math.prod(shape[1:]))
    elif len(shape) == 1 and name.endswith("weight"):
        v = 1.0 + 0.1 * n
    else:
        v = 0.1 * n
    for pattern, factor in SCALES:
        if pattern.search(name):
            v = v * factor
            break
    return v.astype(np.float32)


def state_arrays(kind, salt=""):
    """{name: array} in the layout of the released checkpoint; kind: 'e2fgvi' or 'e2fgvi_hq'."""
    keys = json.loads((HERE / f"{kind}.keys.json").read_text())
    return {n: weight(n, k["shape"], k["dtype"], salt) for n, k in keys.items()}


def state_dict(kind, salt=""):
    import torch

    return {n: torch.from_numpy(np.array(a)) for n, a in state_arrays(kind, salt).items()}


def digest(arrays):
    """sha256 over name + little-endian bytes of every array, names sorted."""
    h = hashlib.sha256()
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        h.update(name.encode())
        h.update(a.astype(a.dtype.newbyteorder("<")).tobytes())
    return h.hexdigest()


# ---------------------------------------------------------------- input clip


def _tri(k, p):
    k = np.mod(k, 2 * p)
    return (255 * np.minimum(k, 2 * p - k)) // p


def clip(n, h, w, seed=0):
    """Integer-only synthetic clip: frames uint8 [n,h,w,3] RGB, holes uint8 0/1 [n,h,w]."""
    y = np.arange(h, dtype=np.int64)[:, None]
    x = np.arange(w, dtype=np.int64)[None, :]
    s = int(seed)
    frames = np.empty((n, h, w, 3), np.uint8)
    holes = np.empty((n, h, w), np.uint8)
    for t in range(n):
        # background: a pan that accelerates
        bx = x + (t * (t + 3)) // 2 + 7 * s
        by = y + 3 * t - (t * t) // 4 + 3 * s
        r = _tri(3 * bx + 2 * by, 97) // 2 + _tri((bx * by) // 64, 61) // 4 + 20
        g = _tri(2 * bx - 5 * by + 40, 131) // 2 + _tri(bx + 9 * by, 29) // 5 + 30
        b = _tri(bx - by + 11 * s, 53) // 3 + _tri(7 * bx + by, 211) // 2 + 10
        # a disc that moves on its own path
        cx = (w // 5 + (3 + s % 3) * t) % w
        cy = (h // 3 + 2 * t + 5 * s) % h
        q = (h // 7) ** 2
        disc = (x - cx) ** 2 + (y - cy) ** 2 < q
        r = np.where(disc, 255 - r, r)
        g = np.where(disc, g // 2, g)
        b = np.where(disc, 200, b)
        frames[t] = np.stack([r, g, b], -1)
        # the hole: an ellipse around the disc, and a bar that blinks
        hole = 4 * (x - cx) ** 2 + 5 * (y - cy) ** 2 < 9 * q
        if (t + s) % 4 != 3:
            bar = (abs(y - (2 * h) // 3) < h // 24) & (x > w // 2 + s % 5) & (x < w // 2 + w // 4)
            hole = hole | bar
        holes[t] = hole
    return frames, holes


def masked_input(frames, holes):
    """float32 [1,n,3,h,w] in [-1,1], zero inside the hole (the generator's input)."""
    x = frames.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    x = x * (1 - holes[..., None].astype(np.float32))
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))[None]


# ---------------------------------------------------------------- comparing

STATS = ("mean", "std", "min", "max", "l2")


def stats(a):
    a = np.asarray(a, np.float64)
    return np.array([a.mean(), a.std(), a.min(), a.max(), math.sqrt((a * a).sum())])


def cut(a, index):
    """Apply a stored index such as ':, ::16, 0:24, 5' to an array."""
    parts = []
    for p in index.split(","):
        p = p.strip()
        if ":" in p:
            parts.append(slice(*[int(q) if q else None for q in p.split(":")]))
        else:
            parts.append(int(p))
    return np.asarray(a)[tuple(parts)]


class Golden:
    """A golden .npz: `meta` (dict), `names`, and `check(name, array)`."""

    def __init__(self, path):
        self.z = np.load(path)
        self.meta = json.loads(str(self.z["meta"]))
        self.names = list(self.meta.get("taps", {}))

    def check(self, name, array):
        """(largest abs difference on the stored cut, largest relative difference of the stats).

        The second number compares mean/std/l2 of the whole tensor, relative to its std.
        """
        tap = self.meta["taps"][name]
        array = np.asarray(array)
        if list(array.shape) != tap["shape"]:
            raise ValueError(f"{name}: shape {list(array.shape)}, expected {tap['shape']}")
        worst = 0.0
        for i, index in enumerate(tap["cuts"]):
            d = np.abs(cut(array, index).astype(np.float64) - self.z[f"{name}__{i}"])
            worst = max(worst, float(d.max()))
        got, want = stats(array), self.z[f"{name}__stats"]
        scale = max(float(want[1]), 1e-12)
        rel = max(
            abs(got[0] - want[0]) / scale,
            abs(got[1] - want[1]) / scale,
            abs(got[4] - want[4]) / max(want[4], 1e-12),
        )
        return worst, rel


def spynet_cases(path=HERE / "e2fgvi_spynet_golden.npz"):
    """Yield (name, a, b, flow): float32 [1,3,h,w] images in [0,1] and the flow [2,h,w] wanted."""
    z = np.load(path)
    for c in json.loads(str(z["meta"]))["cases"]:
        frames, _ = clip(2, c["height"], c["width"], c["clip_seed"])
        x = np.ascontiguousarray(
            (frames.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)
        )
        yield c["name"], x[:1], x[1:], z[c["name"] + "_flow"]


def composite_error(got, want, dilated):
    """(largest level difference, share of hole values that differ, all else is untouched)."""
    d = np.abs(np.asarray(got).astype(int) - np.asarray(want).astype(int))
    inside = np.asarray(dilated).astype(bool)
    return int(d[inside].max()), float((d[inside] > 0).mean()), bool((d[~inside] == 0).all())
