"""Networks of the package transformers: loaded from a folder, or by name from the Hugging Face hub.

Only tensors are read (safetensors), never a pickle and never code that lies beside the weights, and
every key and shape must fit.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inpainterz.errors import (
    EngineUnavailable,
    WeightsCorrupt,
    WeightsError,
    WeightsMismatch,
)

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""How a model is called on the hub: owner/name."""

SMALL_FILES = ("*.json", "*.txt", "*.model")
"""What describes a network, and prepares pictures and words for it."""

WEIGHT_FILES = ("model.safetensors", "model-*.safetensors")

PATIENCE_S = 5.0
"""How long the hub may take to say what it has."""


def require(engine: str, *packages: str) -> None:
    """Check that transformers, and what else is named, can be imported, without importing it.

    Raises:
        EngineUnavailable: a package is not installed.
    """
    for package in ("transformers", *packages):
        if importlib.util.find_spec(package) is None:
            raise EngineUnavailable(
                engine,
                f"the package {package} is not installed",
                f"Install it: pip install {package}",
            )


def load(
    kind: Any,
    where: Path,
    *,
    name: str,
    may_lack: Sequence[str] = (),
    also: Sequence[str] = (),
) -> Any:
    """A network of transformers with its weights, on the CPU, in eval mode.

    Args:
        kind: the class of transformers, with `from_pretrained` and `config_class`.
        where: a folder with config.json and model.safetensors, or the model's name on the hub.
        name: of the engine or card, for messages.
        may_lack: beginnings of keys that the file need not have.
        also: kinds of model whose folders hold this network besides, as config.json calls them.

    Raises:
        WeightsError: there is no such folder and no such model, or no network to ask by.
        WeightsCorrupt: the file is damaged.
        WeightsMismatch: it holds another network.
    """
    folder = _fetched(where, SMALL_FILES, name=name)
    _require_kind(kind, folder, name, also)
    if not where.is_dir():
        folder = _fetched(where, (*SMALL_FILES, *WEIGHT_FILES), name=name)
    if not any(folder.glob("*.safetensors")):
        raise WeightsError(
            f"{where} holds no model.safetensors", "Only this format is read: it cannot run code"
        )
    with _quietly(), _told(folder, name):
        try:
            network, said = kind.from_pretrained(
                str(folder), use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        except RuntimeError as error:  # shapes that do not fit
            text = " ".join(str(error).split())
            if "size mismatch" not in text and "mismatch" not in text:
                raise
            raise WeightsMismatch(name, shapes=[text[:120]]) from error
    missing = [k for k in said["missing_keys"] if not k.startswith(tuple(may_lack))]
    unexpected, shapes = said["unexpected_keys"], said["mismatched_keys"]
    if missing or unexpected or shapes:
        raise WeightsMismatch(
            name, sorted(missing), sorted(unexpected), [str(one) for one in shapes]
        )
    return network.eval()


def processor(kind: Any, where: Path, *, name: str) -> Any:
    """What prepares pictures, and words, for a network.

    Args:
        kind: the class of transformers.
        where, name: as `load`, which comes first.

    Raises:
        WeightsError: as `load`.
    """
    folder = _fetched(where, SMALL_FILES, name=name, again=True)
    with _quietly(), _told(folder, name):
        return kind.from_pretrained(str(folder), local_files_only=True)


def _fetched(where: Path, files: Sequence[str], *, name: str, again: bool = False) -> Path:
    """The folder itself, or the one in the hub's cache, with such files of a model on the hub.

    Without a network what was fetched before serves. The hub is asked once: where a network is
    opened by a name, transformers asks for its files one by one, and each time waits half a minute
    for a network that is not there.

    Args:
        where, name: as `load`.
        files: patterns of names.
        again: they were fetched a moment ago.
    """
    if where.is_dir():
        return where
    if NAME.fullmatch(where.as_posix()) is None:
        raise WeightsError(
            f"there is no folder {where}", "Name a folder, or a model of the hub: owner/name"
        )
    from huggingface_hub import snapshot_download

    with _quietly(), _told(where, name):
        return Path(
            snapshot_download(
                where.as_posix(),
                allow_patterns=list(files),
                etag_timeout=PATIENCE_S,
                local_files_only=again,
            )
        )


def _require_kind(kind: Any, where: Path, name: str, also: Sequence[str]) -> None:
    """Tell a folder of another model before anything large is read."""
    file = where / "config.json"
    try:
        told = json.loads(file.read_text("utf-8")).get("model_type")
    except FileNotFoundError as error:
        raise WeightsError(
            f"{where} holds no config.json", "Name the folder of a model of transformers"
        ) from error
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsCorrupt(file, "a description of a network", "something else") from error
    if told not in (kind.config_class.model_type, *also):
        raise WeightsMismatch(name, shapes=[f"{file} describes a network of the kind {told}"])


@contextmanager
def _told(where: Path, name: str) -> Iterator[None]:
    """Turn what transformers, the hub and safetensors raise into a sentence."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise WeightsCorrupt(where, "a file of tensors", "a damaged or cut file") from error
    except (OSError, ValueError) as error:  # the hub's errors are OSError or ValueError too
        if isinstance(error, WeightsError):
            raise
        reason = " ".join(str(error).split()).split(". ")[0][:160].rstrip(".")
        if where.is_dir():
            raise WeightsError(f"{where} cannot be read as {name}: {reason}") from error
        if isinstance(error, LocalEntryNotFoundError):
            reason = "the hub cannot be reached, and it was not fetched before"
        elif isinstance(error, GatedRepoError):
            reason = "its owner gives it only to accounts that agreed to something"
        elif isinstance(error, RepositoryNotFoundError):
            reason = "it is not there, or not public"
        raise WeightsError(
            f"the model {where.as_posix()} cannot be had from the hub: {reason}",
            "Check its name and the network, or name a folder that holds it",
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the package's bars and remarks; what it says is told by errors."""
    from transformers.utils import logging as package

    their_logging: Any = package
    logs = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels, bars = [log.level for log in logs], their_logging.is_progress_bar_enabled()
    for log in logs:
        log.setLevel(logging.CRITICAL)
    their_logging.disable_progress_bar()
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        if bars:
            their_logging.enable_progress_bar()
