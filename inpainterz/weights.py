"""Reads the cards of third_party/, finds and checks weights files, loads a state dict strictly."""

from __future__ import annotations

import fnmatch
import importlib.util
import logging
import os
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpainterz.errors import (
    EngineUnavailable,
    OptionError,
    WeightsCorrupt,
    WeightsMismatch,
    WeightsMissing,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import torch

PACKAGE = Path(__file__).resolve().parent

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Card:
    """One weights file that somebody else trained: what third_party/<name>.toml says."""

    name: str
    stage: str
    title: str
    file: str
    """File name as published; the name under which it is kept."""
    url: str
    """https address, or gdrive:<id>."""
    size: int
    """Bytes; 0 where it is not known."""
    sha256: str
    """Hex digest, or "" where none is known."""
    licence: str
    commercial: bool
    """Whether the licence allows commercial use."""
    paper: str
    authors: str
    home: str
    """Where the authors offer it."""
    member: str = ""
    """Name of the file inside the archive at `url`, "" where the address is the file itself."""
    sha256_from: str = ""
    """Who vouches for `sha256`."""
    parameters: int = 0
    """Numbers in the network, for an estimate of the size; 0 where `size` is known."""
    note: str = ""
    in_default_set: bool = False
    """Whether script/download_ckpt.sh fetches it when nothing is named."""


def card_folder() -> Path:
    """Where the cards are: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / "cards"
    return inside if inside.is_dir() else PACKAGE.parent / "third_party"


def cards() -> dict[str, Card]:
    """All cards by name."""
    found = {}
    for path in sorted(card_folder().glob("*.toml")):
        found[path.stem] = Card(name=path.stem, **tomllib.loads(path.read_text("utf-8")))
    return found


def card(name: str) -> Card:
    """One card.

    Raises:
        OptionError: there is none of that name; the hint lists those there are.
    """
    known = cards()
    if name not in known:
        raise OptionError(
            f"there are no weights called {name!r}", f"Known are: {', '.join(sorted(known))}"
        )
    return known[name]


def folders() -> list[Path]:
    """Where weights are looked for, first match wins."""
    from platformdirs import user_cache_path

    found = []
    if os.environ.get("INPAINTERZ_WEIGHTS"):
        found.append(Path(os.environ["INPAINTERZ_WEIGHTS"]))
    if (PACKAGE.parent / "ckpt").is_dir():
        found.append(PACKAGE.parent / "ckpt")
    found.append(user_cache_path("inpainterz") / "ckpt")
    return found


def locate(name: str) -> Path:
    """The path of a weights file on this machine.

    Raises:
        WeightsMissing: names the command that fetches it.
    """
    wanted = card(name)
    for folder in folders():
        if (folder / wanted.file).is_file():
            return folder / wanted.file
    raise WeightsMissing(name, f"inpainterz weights fetch {name}")


# Loading ------------------------------------------------------------------------------------------


def load_into(
    network: torch.nn.Module,
    path: Path,
    *,
    name: str,
    rename: Mapping[str, str] | None = None,
    may_lack: Sequence[str] = (),
    may_have: Sequence[str] = (),
) -> None:
    """Load a weights file into a network, strictly: its own state dict says what must be there.

    Args:
        network: takes the numbers in its own dtypes and on its own device.
        path: as `load_state_dict`.
        name: as `load_state_dict`; so are the others.

    Raises:
        WeightsMissing, WeightsCorrupt, WeightsMismatch: as `load_state_dict`.
    """
    own = network.state_dict()
    state = load_state_dict(
        path,
        name=name,
        expected={key: tuple(value.shape) for key, value in own.items()},
        rename=rename,
        may_lack=may_lack,
        may_have=may_have,
    )
    network.load_state_dict({**own, **state}, strict=True)


def load_state_dict(
    path: Path,
    *,
    name: str,
    expected: Mapping[str, Sequence[int]],
    rename: Mapping[str, str] | None = None,
    may_lack: Sequence[str] = (),
    may_have: Sequence[str] = (),
) -> dict[str, torch.Tensor]:
    """Read a weights file and hold it against the keys and shapes that the network expects.

    The weights may lie under "state_dict" or "model", as training scripts save them. A file is
    never run as code: only tensors, plain containers and numbers are read.

    Args:
        path: a .pth of `torch.save`, old or new format, or a .safetensors file.
        name: of the card, for the message.
        expected: key -> shape of every tensor.
        rename: start of a key in the file -> what stands in its place, tried in order where the
            key is not expected as it is; None strips "module.", which data-parallel training adds.
        may_lack: shell patterns of expected keys that the file need not have.
        may_have: shell patterns of keys of the file (as renamed) that are left out without a word;
            every other unexpected key is an error.

    Returns:
        the tensors on the CPU, under the expected keys, in the order of `expected`. They may be
        mapped from the file: copy them before changing them.

    Raises:
        WeightsMissing: there is no such file.
        WeightsCorrupt: it is damaged, holds code or numbers that are not finite.
        WeightsMismatch: missing, unexpected or mis-shaped keys.
    """
    import torch

    raw = _unwrap(_read(path, name))
    prefixes = {"module.": ""} if rename is None else rename
    state: dict[str, torch.Tensor] = {}
    unexpected, shapes, seen = [], [], set()
    for key, value in raw.items():
        target = _renamed(key, expected, prefixes)
        if target is None:
            if not any(fnmatch.fnmatchcase(key, pattern) for pattern in may_have):
                unexpected.append(key)
            continue
        seen.add(target)
        if not isinstance(value, torch.Tensor):
            shapes.append(f"{key} is {type(value).__name__}, not a tensor")
        elif tuple(value.shape) != tuple(expected[target]):
            shapes.append(f"{key} is {_shape(value.shape)}, not {_shape(expected[target])}")
        elif key == target or target not in state:  # a key under its own name comes first
            state[target] = value
    missing = [
        key
        for key in expected
        if key not in seen and not any(fnmatch.fnmatchcase(key, pattern) for pattern in may_lack)
    ]
    if missing or unexpected or shapes:
        raise WeightsMismatch(name, missing, unexpected, shapes)
    for key, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise WeightsCorrupt(path, "finite numbers", f"NaN or infinity in {key}")
    return {key: state[key] for key in expected if key in state}


def _renamed(
    key: str, expected: Mapping[str, Sequence[int]], prefixes: Mapping[str, str]
) -> str | None:
    if key in expected:
        return key
    for old, new in prefixes.items():
        if key.startswith(old) and new + key[len(old) :] in expected:
            return new + key[len(old) :]
    return None


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape) or "a single number"


def _unwrap(loaded: Any) -> Mapping[str, Any]:
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            return loaded[key]  # type: ignore[no-any-return]
    return loaded if isinstance(loaded, Mapping) else {}


def _read(path: Path, name: str) -> Any:
    """Read the file as data, never as code."""
    if not path.is_file():
        raise WeightsMissing(name, f"inpainterz weights fetch {name}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, name)
    import torch

    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # remarks on the pickle protocol, not on the weights
            return torch.load(
                path,
                map_location="cpu",
                weights_only=True,
                mmap=zipfile.is_zipfile(path),  # the old format cannot be mapped
            )
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        code = re.search(r"(?:GLOBAL|global) (\S+)", str(error))
        found = f"a pickle that asks to run {code[1]}" if code else "something else"
        raise WeightsCorrupt(path, "a file of tensors", found) from error
    except Exception as error:  # torch raises a dozen kinds on damaged files, EOFError to OSError
        raise WeightsCorrupt(path, "a file of tensors", "a damaged or cut file") from error


def _read_safetensors(path: Path, name: str) -> Any:
    if importlib.util.find_spec("safetensors") is None:
        raise EngineUnavailable(
            name, "the package safetensors is not installed", "Install it: pip install safetensors"
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise WeightsCorrupt(path, "a file of tensors", "a damaged or cut file") from error


def _numpy_scalars() -> list[Any]:
    """What a learning rate or a score that training saved beside the weights is made of.

    A numpy number is data: rebuilding it calls nothing but numpy's own constructor.
    """
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    number_types = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *number_types]
