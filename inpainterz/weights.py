"""Reads the cards of third_party/, fetches weights, checks them, loads a state dict strictly.

The commands `inpainterz weights ...` are calls of this module:

    list      for line in inventory(): line.card, size_text(line.card), line.path, line.fault
    fetch     for card in choose(names, everything=all, commercial=commercial):
                  show(describe(card)); path = fetch(card.name, folder=dir, progress=bar)
    verify    for line in inventory(verify=True): line.fault says what is wrong, "" is well
    path      locate(name), or folders(dir)[0], where a fetch puts its files
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import importlib.util
import json
import logging
import os
import pickle
import re
import shutil
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpainterz import download
from inpainterz.errors import (
    EngineUnavailable,
    OptionError,
    WeightsCorrupt,
    WeightsError,
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
RECORDS = "hashes.json"
"""Beside the weights: the hash of each file as it was first fetched or found."""
CHUNK_BYTES = 1 << 20
HUB = "https://huggingface.co"
OLD_FORMAT = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file of torch.save before 1.6 begins: its pickled magic number."""

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
    """https address, or gdrive:<id>; where there are `files`, the address that they lie under."""
    size: int
    """Bytes; 0 where it is not known."""
    sha256: str
    """Hex digest, or "" where nobody vouches for one; then `size` binds nobody either."""
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
    files: tuple[str, ...] = ()
    """Names of several files that belong together; `file` is then the folder that holds them."""
    in_default_set: bool = False
    """Whether script/download_ckpt.sh fetches it when nothing is named."""


def card_folder() -> Path:
    """Where the cards are: inside an installed package, or beside it in a checkout."""
    inside = PACKAGE / "cards"
    return inside if inside.is_dir() else PACKAGE.parent / "third_party"


def cards() -> dict[str, Card]:
    """All cards by name, in the order of the stages."""
    found = [
        _card(path.stem, tomllib.loads(path.read_text("utf-8")))
        for path in card_folder().glob("*.toml")
    ]
    stages = ("detect", "segment", "track", "inpaint")
    return {one.name: one for one in sorted(found, key=lambda c: (stages.index(c.stage), c.name))}


def _card(name: str, told: dict[str, Any]) -> Card:
    return Card(name=name, **{**told, "files": tuple(told.get("files", ()))})


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


def choose(
    names: Sequence[str] = (), *, everything: bool = False, commercial: bool = False
) -> list[Card]:
    """The cards that a fetch is about: those named, else all of them, else the default set.

    Args:
        names: of cards; empty for a set.
        everything: the whole list instead of the default set.
        commercial: of the set, only those whose licence allows commercial use.

    Raises:
        OptionError: no such card, or a named one that does not allow commercial use.
    """
    if names:
        chosen = [card(name) for name in names]
        refused = [one.name for one in chosen if commercial and not one.commercial]
        if refused:
            raise OptionError(f"the licence of {refused[0]} does not allow commercial use")
        return chosen
    return [
        one
        for one in cards().values()
        if (everything or one.in_default_set) and (one.commercial or not commercial)
    ]


def size_text(wanted: Card) -> str:
    """The size of a file for people, such as "375 MB"; an estimate says so."""
    if wanted.size:
        return f"{wanted.size / 1e6:,.0f} MB"
    return f"about {wanted.parameters * 4 / 1e6:,.0f} MB"  # float32


def describe(wanted: Card) -> str:
    """One line to show before a fetch: what it is, how large, under which licence."""
    use = "commercial use allowed" if wanted.commercial else "NO commercial use"
    return f"{wanted.name}: {wanted.title}, {size_text(wanted)}, {wanted.licence} ({use})"


def page(wanted: Card) -> str:
    """The address that a person opens in a browser to fetch the file by hand."""
    if wanted.files:
        return _mirrored(wanted.url).replace("/resolve/", "/tree/")
    if not wanted.url.startswith(download.DRIVE):
        return wanted.url
    return f"https://drive.google.com/file/d/{wanted.url.removeprefix(download.DRIVE)}/view"


# Finding and checking -----------------------------------------------------------------------------


def folders(first: Path | None = None) -> list[Path]:
    """Where weights are looked for, first match wins.

    Args:
        first: a folder to look in before INPAINTERZ_WEIGHTS, ckpt/ of the checkout and the
            user's cache folder.
    """
    from platformdirs import user_cache_path

    found = [] if first is None else [first]
    if os.environ.get("INPAINTERZ_WEIGHTS"):
        found.append(Path(os.environ["INPAINTERZ_WEIGHTS"]).expanduser())
    if (PACKAGE.parent / "ckpt").is_dir():
        found.append(PACKAGE.parent / "ckpt")
    found.append(user_cache_path("inpainterz") / "ckpt")
    return found


def find(name: str, *, folder: Path | None = None) -> Path | None:
    """Where a weights file is, or None; nothing is checked.

    Args:
        name: of the card.
        folder: looked in first.
    """
    wanted = card(name)
    for place in folders(folder):
        if _is_there(wanted, place / wanted.file):
            return place / wanted.file
    return None


def _is_there(wanted: Card, path: Path) -> bool:
    if wanted.files:
        return all((path / name).is_file() for name in wanted.files)
    return path.is_file()


def locate(name: str, *, folder: Path | None = None) -> Path:
    """The path of a weights file on this machine that is the one its card describes.

    The file's hash is taken the first time and whenever its size or date has changed.

    Args:
        name: of the card.
        folder: looked in first.

    Raises:
        WeightsMissing: names the command that fetches it.
        WeightsCorrupt: its size or hash is not that of the card or of the first fetch.
    """
    path = find(name, folder=folder)
    if path is None:
        raise WeightsMissing(name, f"inpainterz weights fetch {name}")
    known = _recorded(path)
    if known is None or (known.size, known.mtime_ns) != _stamp(path) or not known.fits(card(name)):
        check(card(name), path)
    return path


@dataclass(frozen=True, slots=True)
class Found:
    """One line of `inpainterz weights list` and `verify`."""

    card: Card
    path: Path | None
    """None where the file is not on this machine."""
    sha256: str = ""
    """Of the file, where it was taken."""
    fault: str = ""
    """What is wrong with the file, "" where nothing is known to be."""


def inventory(*, folder: Path | None = None, verify: bool = False) -> list[Found]:
    """What is on this machine, a line for every card.

    Args:
        folder: looked in first.
        verify: read every file from end to end and hold its hash against the card.
    """
    lines = []
    for one in cards().values():
        path = find(one.name, folder=folder)
        if path is None or not verify:
            known = None if path is None else _recorded(path)
            lines.append(Found(one, path, "" if known is None else known.sha256))
            continue
        try:
            lines.append(Found(one, path, check(one, path)))
        except WeightsCorrupt as error:
            lines.append(Found(one, path, fault=f"expected {error.expected}, found {error.actual}"))
    return lines


def check(wanted: Card, path: Path) -> str:
    """Hold a file against its card and, where that has no hash, against the first fetch.

    The hash of a file that passes is recorded in hashes.json beside it. Where the card has no hash
    and the file was put there by hand, nothing but its keys and shapes can tell whose it is, and
    those are compared when it is loaded: `load_state_dict`.

    Returns:
        the SHA-256 of the file as hex digits.

    Raises:
        WeightsCorrupt: another size, another hash, or not a weights file at all.
    """
    known = _recorded(path)
    record = _verified(wanted, path, known=known)
    _record(path, replace(record, fetched=known is not None and known.fetched))
    return record.sha256


@dataclass(frozen=True, slots=True)
class Record:
    """What hashes.json holds of one file."""

    sha256: str
    size: int
    mtime_ns: int
    fetched: bool = False
    """Whether `fetch` brought the file; then another file in its place must be the same."""

    def fits(self, wanted: Card) -> bool:
        """Whether the recorded hash is the card's, where the card has one."""
        return not wanted.sha256 or self.sha256 == wanted.sha256


def _stamp(path: Path) -> tuple[int, int]:
    """Size and date; of a folder the sizes together, and the latest date."""
    parts = _parts(path)
    facts = [one.stat() for one in parts]
    return sum(f.st_size for f in facts), max(f.st_mtime_ns for f in facts)


def _parts(path: Path) -> list[Path]:
    """The files that belong to a weights file or folder, in the order of their names."""
    if not path.is_dir():
        return [path]
    return sorted(
        one for one in path.iterdir() if one.is_file() and one.suffix not in (".part", ".etag")
    )


def _records(folder: Path) -> dict[str, Record]:
    try:
        text = (folder / RECORDS).read_text("utf-8")
        return {name: Record(**entry) for name, entry in json.loads(text).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("%s cannot be read and is started anew: %s", folder / RECORDS, error)
        return {}


def _recorded(path: Path) -> Record | None:
    return _records(path.parent).get(path.name)


def _record(path: Path, entry: Record) -> None:
    known = {**_records(path.parent), path.name: entry}
    text = json.dumps({name: asdict(one) for name, one in sorted(known.items())}, indent=2)
    try:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=RECORDS, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            os.replace(draft, path.parent / RECORDS)
        except OSError:
            os.unlink(draft)
            raise
    except OSError as error:  # a folder for reading only: the hash is taken again next time
        logger.info("the hash of %s is not recorded: %s", path, error)


def _verified(wanted: Card, path: Path, *, known: Record | None) -> Record:
    size, mtime_ns = _stamp(path)
    if wanted.sha256 and size != wanted.size:
        raise WeightsCorrupt(path, f"{wanted.size:,} bytes", f"{size:,} bytes")
    hasher = hashlib.sha256()
    for one in _parts(path):
        if path.is_dir():
            hasher.update(f"{one.name}\n{one.stat().st_size}\n".encode())
        with one.open("rb") as file:
            while block := file.read(CHUNK_BYTES):
                hasher.update(block)
    digest = hasher.hexdigest()
    expected = wanted.sha256 or (known.sha256 if known is not None and known.fetched else "")
    if expected and digest != expected:
        raise WeightsCorrupt(path, f"SHA-256 {expected}", digest)
    if not expected:
        for one in _parts(path):
            if not path.is_dir() or one.suffix in (".pth", ".pt", ".bin", ".safetensors"):
                _require_weights_format(one)
    return Record(digest, size, mtime_ns)


def _require_weights_format(path: Path) -> None:
    """Tell a weights file from a web page or half a file where there is no hash to compare."""
    with path.open("rb") as file:
        head = file.read(16)
    if zipfile.is_zipfile(path):  # torch.save since 1.6; every member has a CRC
        with zipfile.ZipFile(path) as archive:
            try:
                broken = archive.testzip()
            except (zipfile.BadZipFile, OSError, EOFError) as error:
                raise WeightsCorrupt(path, "a file of tensors", "a damaged file") from error
        if broken is not None:
            raise WeightsCorrupt(path, "a file of tensors", f"damage in {broken}")
    elif path.suffix == ".safetensors":
        _require_safetensors(path)
    elif not head.startswith(OLD_FORMAT):
        raise WeightsCorrupt(path, "a file of tensors", f"a file that begins with {head!r}")


def _require_safetensors(path: Path) -> None:
    """Hold the file's length against its header: a length, a table as JSON, then the numbers."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                raise ValueError
            table = json.loads(file.read(length))
        ends = [one["data_offsets"][1] for key, one in table.items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise WeightsCorrupt(path, "a file of tensors", "something else") from error
    if size != 8 + length + max(ends, default=0):
        raise WeightsCorrupt(path, f"{8 + length + max(ends, default=0):,} bytes", f"{size:,}")


# Fetching -----------------------------------------------------------------------------------------


def fetch(
    name: str,
    *,
    folder: Path | None = None,
    progress: download.Progress | None = None,
    retries: int = 4,
) -> Path:
    """Download a weights file, check it and give it its name only then.

    An interrupted download stays as <file>.part, which nothing loads, and is gone on with the
    next time. A file that is there already, put there by hand perhaps, is checked instead.

    Args:
        name: of the card.
        folder: where to put it, made where it is missing; None takes the first of `folders()`.
        progress: called with the bytes done and the bytes in all, None where that is not known.
        retries: how many tries in a row may bring nothing new after the connection was cut.

    Returns:
        the path of the file.

    Raises:
        OptionError: no such card.
        WeightsCorrupt: what came is not the file that the card describes; it is deleted.
        WeightsError: no network, no such address, no room: says the address and where to put
            the file by hand.
    """
    wanted = card(name)
    target = (folders()[0] if folder is None else folder) / wanted.file
    if _is_there(wanted, target):
        check(wanted, target)
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _require_room(wanted, part)
        with download.one_at_a_time(part):
            if wanted.files:
                _fetch_files(wanted, part, progress=progress, retries=retries)
                _accept(wanted, part, target)
                return target
            whole = part.with_name(target.name + ".zip.part") if wanted.member else part
            download.download(
                wanted.url,
                whole,
                progress=progress or (lambda done, total: None),
                retries=retries,
                size=0 if wanted.member else wanted.size,
                checked_later=bool(wanted.sha256),
            )
            if wanted.member:
                _extract(wanted, whole, part)
            _accept(wanted, part, target)
    except download.WrongSize as error:
        corrupt = WeightsCorrupt(target, f"{wanted.size:,} bytes", f"{error.size:,} bytes")
        raise _nothing_kept(wanted, corrupt) from error
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"the weights of {name} are on Google Drive and the package gdown is missing",
            f"Install it: pip install 'gdown>=6.5', or save {page(wanted)} as {target}",
        ) from error
    except OSError as error:
        raise WeightsError(
            f"the weights of {name} could not be fetched: {_reason(error)}",
            f"Run the same command again to go on, or save {page(wanted)}"
            f"{' (the file ' + wanted.member + ' in it)' if wanted.member else ''} as {target}",
        ) from error
    return target


def _fetch_files(
    wanted: Card, part: Path, *, progress: download.Progress | None, retries: int
) -> None:
    """Download the files of a card into the folder `part`, going on with what is there."""
    part.mkdir(exist_ok=True)
    for name in wanted.files:
        if (part / name).is_file():
            continue
        draft = part / f"{name}.part"
        download.download(
            f"{_mirrored(wanted.url)}/{name}",
            draft,
            progress=progress or (lambda done, total: None),
            retries=retries,
        )
        os.replace(draft, part / name)


def _mirrored(url: str) -> str:
    """The address at the mirror of the Hugging Face hub that HF_ENDPOINT names."""
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return url.replace(HUB, mirror, 1) if mirror and url.startswith(HUB) else url


def _accept(wanted: Card, part: Path, target: Path) -> None:
    """Check a finished download and give it its name; delete it where it is not the right one.

    The hash is taken from the disk, not from the stream: so a resumed file needs no second way,
    and what the disk made of it is checked too.
    """
    try:
        record = _verified(wanted, part, known=_recorded(target))
    except WeightsCorrupt as error:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()
        raise _nothing_kept(wanted, error) from error
    if target.is_dir():  # of an older list of files, or a part of one
        shutil.rmtree(target)
    os.replace(part, target)
    _record(target, replace(record, fetched=True))


def _nothing_kept(wanted: Card, error: WeightsCorrupt) -> WeightsCorrupt:
    told = WeightsCorrupt(page(wanted), error.expected, error.actual)
    told.hint = "Nothing of it was kept; fetch it again"
    return told


def _extract(wanted: Card, archive: Path, part: Path) -> None:
    """Take the wanted file out of a zip archive, whose CRC is checked on the way."""
    try:
        with zipfile.ZipFile(archive) as contents:
            inside = [m for m in contents.infolist() if Path(m.filename).name == wanted.member]
            if len(inside) != 1:
                raise WeightsCorrupt(
                    archive, f"one {wanted.member} in the archive", f"{len(inside)} of them"
                )
            with contents.open(inside[0]) as source, part.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
    except (WeightsCorrupt, zipfile.BadZipFile, zlib.error, EOFError) as error:
        part.unlink(missing_ok=True)
        archive.unlink()
        if not isinstance(error, WeightsCorrupt):
            error = WeightsCorrupt(archive, "a whole zip archive", "a damaged one")
        raise _nothing_kept(wanted, error) from error
    archive.unlink()


def _require_room(wanted: Card, part: Path) -> None:
    missing = wanted.size - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(part.parent).free
    if wanted.size and missing > free:
        raise WeightsError(
            f"there is no room for the weights of {wanted.name}: {missing / 1e6:,.0f} MB are"
            f" needed and {free / 1e6:,.0f} MB are free in {part.parent}",
            "Make room, or set INPAINTERZ_WEIGHTS to a folder elsewhere",
        )


def _reason(error: OSError) -> str:
    """What went wrong, in one line."""
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return " ".join(str(error).split())[:200] or type(error).__name__


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
        network: takes the numbers in its own dtypes and on its own device; one that was built on
            the meta device gets them on the CPU, and then nothing may be lacking.
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
    if any(value.is_meta for value in own.values()):  # a network built without numbers
        state = {key: value.to(own[key].dtype).clone() for key, value in state.items()}
        network.load_state_dict(state, strict=True, assign=True)
    else:
        network.load_state_dict({**own, **state}, strict=True)


def shapes_in(path: Path, *, name: str) -> dict[str, tuple[int, ...]]:
    """Key -> shape of every tensor in a weights file; the numbers are not looked at.

    Raises:
        WeightsMissing, WeightsCorrupt: as `load_state_dict`.
    """
    import torch

    raw = _unwrap(_read(path, name))
    return {key: tuple(v.shape) for key, v in raw.items() if isinstance(v, torch.Tensor)}


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
        may_have: shell patterns of keys of the file that are left out; every other unexpected key
            is an error.

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

    rebuild: Any = np.float64(0).__reduce__()[0]

    def scalar(dtype: Any, data: bytes) -> Any:
        return rebuild(dtype, data)

    scalar.__module__, scalar.__qualname__ = "numpy.core.multiarray", "scalar"  # up to numpy 1
    number_types = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")]
    return [rebuild, scalar, np.dtype, *number_types]
