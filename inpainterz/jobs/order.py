"""Orders: all that a job needs to know, as data that can be written down and read again."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inpainterz import device, weights
from inpainterz import engines as engine_list
from inpainterz.engines import Stage
from inpainterz.errors import OptionError
from inpainterz.masks import encode_labels
from inpainterz.outputs import Also
from inpainterz.pipeline import Engines, FillOptions, Options
from inpainterz.types import JSON, LabelMap, Prompt, Prompts
from inpainterz.video.reader import Limits, VideoReader
from inpainterz.video.writer import WriteOptions

STAGES: tuple[Stage, ...] = ("segment", "track", "inpaint")

_SAMPLE = 1 << 20  # bytes of a clip's beginning, middle and end that tell it from another


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engines, before any is loaded: a job loads one when it needs it, and lets it go."""

    names: Mapping[Stage, str] = field(default_factory=lambda: dict.fromkeys(STAGES, "builtin"))
    options: Mapping[Stage, Mapping[str, Any]] = field(default_factory=dict)
    """Fields of the engine's `Options` that are not as by default."""
    device: str = "auto"
    weights_dir: Path | None = None

    @classmethod
    def choose(
        cls,
        *,
        segmenter: str | None = None,
        tracker: str | None = None,
        inpainter: str | None = None,
        engine_set: str = "builtin",
        device: str = "auto",
        options: Mapping[Stage, Mapping[str, Any]] | None = None,
        weights_dir: Path | None = None,
    ) -> EngineChoice:
        """Choose as `Engines.load` does, and load nothing.

        Raises:
            OptionError: no such engine or set.
        """
        named: dict[Stage, str | None] = {
            "segment": segmenter,
            "track": tracker,
            "inpaint": inpainter,
        }
        names = engine_list.choose(engine_set, named, weights_dir=weights_dir)
        for stage, name in names.items():
            engine_list.find(stage, name)
        kept = {stage: names[stage] for stage in STAGES}
        return cls(kept, options or {}, device, weights_dir)

    @classmethod
    def of(cls, engines: Engines) -> EngineChoice:
        """The choice that loaded engines are the result of, as far as they tell."""
        found: dict[Stage, Mapping[str, Any]] = {}
        loaded = (engines.segmenter, engines.tracker, engines.inpainter)
        for stage, engine in zip(STAGES, loaded, strict=True):
            options = getattr(engine, "options", None)
            if is_dataclass(options) and not isinstance(options, type):
                found[stage] = asdict(options)
        return cls({s: engines.names.get(s, "given") for s in STAGES}, found)

    def check(self) -> None:
        """Check that every engine can be loaded, without loading a network.

        Raises:
            OptionError: an option that the engine has not, or of another kind.
            WeightsMissing: names the command that fetches them.
            EngineUnavailable: a package or a device is missing.
        """
        for stage in STAGES:
            entry = engine_list.find(stage, self.names[stage])
            if entry.weights is None:
                self.load(stage)
                continue
            weights.locate(entry.weights, folder=self.weights_dir)
            device.require_torch(entry.name)
            device.pick(self.device, entry.name)
            options_of(self, stage)

    def with_options(self, stage: Stage, options: Mapping[str, Any], device: str) -> EngineChoice:
        """The same with other options for one stage, and another device."""
        return replace(self, options={**self.options, stage: dict(options)}, device=device)

    def load(self, stage: Stage) -> Any:
        """Load the engine of a stage; see `engines.load` for what it raises."""
        return engine_list.load(
            stage,
            self.names[stage],
            device=self.device,
            options=dict(self.options.get(stage, {})),
            weights_dir=self.weights_dir,
        )

    def load_all(self) -> Engines:
        """Load the engine of every stage; see `load`."""
        segmenter, tracker, inpainter = map(self.load, STAGES)
        return Engines(segmenter, tracker, inpainter, {str(s): n for s, n in self.names.items()})

    def as_json(self) -> JSON:
        """Plain data."""
        return {
            "names": dict(self.names),
            "options": {stage: dict(given) for stage, given in self.options.items()},
            "device": self.device,
            "weights_dir": None if self.weights_dir is None else str(self.weights_dir),
        }

    @classmethod
    def from_json(cls, data: JSON) -> EngineChoice:
        """From `as_json`."""
        folder = data["weights_dir"]
        return cls(
            data["names"], data["options"], data["device"], None if folder is None else Path(folder)
        )


def options_of(engines: EngineChoice, stage: Stage) -> Any:
    """The `Options` that an engine will be given; imports the engine, loads nothing.

    Raises:
        OptionError: an option that the engine has not.
    """
    module = importlib.import_module(engine_list.find(stage, engines.names[stage]).module)
    return engine_list.read_options(module.Options, dict(engines.options.get(stage, {})))


@dataclass(frozen=True, slots=True)
class Order:
    """What a removal is to do."""

    source: Path
    target: str
    """As for `pipeline.remove`."""
    prompts: Prompts = field(default_factory=dict)
    labels: Mapping[int, LabelMap] = field(default_factory=dict)
    """Frame index -> (H, W) label map, beside or instead of prompts."""
    masks: Path | None = None
    """A zip or folder of label PNGs, or one PNG: nothing is outlined or followed then."""
    engines: EngineChoice = field(default_factory=EngineChoice)
    options: Options = field(default_factory=Options)
    part: tuple[int, int] | None = None
    """First frame, and the one after the last, of what may change; None = all."""
    memory_limit_mb: int | None = None
    """MiB that the process should not exceed."""

    def __post_init__(self) -> None:
        if self.memory_limit_mb is not None and self.memory_limit_mb < 64:
            raise OptionError(
                f"a memory limit of {self.memory_limit_mb} MiB is too little for anything",
                "Give 500 MiB or more",
            )

    def as_json(self) -> JSON:
        """Plain data; label maps and masks are files of their own and are left out."""
        return {
            "source": str(self.source),
            "target": self.target,
            "prompts": prompts_as_json(self.prompts),
            "masks": None if self.masks is None else str(self.masks),
            "engines": self.engines.as_json(),
            "options": options_as_json(self.options),
            "part": None if self.part is None else list(self.part),
            "memory_limit_mb": self.memory_limit_mb,
        }

    @classmethod
    def from_json(cls, data: JSON, labels: Mapping[int, LabelMap]) -> Order:
        """From `as_json` and the label maps."""
        part = data["part"]
        return cls(
            source=Path(data["source"]),
            target=data["target"],
            prompts=prompts_from_json(data["prompts"]),
            labels=labels,
            masks=None if data["masks"] is None else Path(data["masks"]),
            engines=EngineChoice.from_json(data["engines"]),
            options=options_from_json(data["options"]),
            part=None if part is None else (part[0], part[1]),
            memory_limit_mb=data["memory_limit_mb"],
        )

    def same_as(self, other: Order) -> bool:
        """Whether both ask for the same, wherever clip and target are."""
        return self._key() == other._key()

    def _key(self) -> str:
        told = self.as_json()
        for name in ("source", "target", "masks", "memory_limit_mb"):
            told.pop(name)
        options = told["options"]
        for name in ("overwrite", "limits"):
            options.pop(name)
        options["save_masks"] = options["save_masks"] is not None
        options["also"] = [also["kind"] for also in options["also"]]
        told["labels"] = {
            str(i): hashlib.sha256(encode_labels(m)).hexdigest()
            for i, m in sorted(self.labels.items())
        }
        return json.dumps(told, sort_keys=True)


def prompts_as_json(prompts: Prompts) -> JSON:
    """Prompts as plain data."""
    return {
        str(index): {
            str(label): {
                "points": prompt.points.tolist(),
                "positive": prompt.positive.tolist(),
                "box": None if prompt.box is None else prompt.box.tolist(),
            }
            for label, prompt in objects.items()
        }
        for index, objects in prompts.items()
    }


def prompts_from_json(data: JSON) -> dict[int, dict[int, Prompt]]:
    """From `prompts_as_json`."""
    return {
        int(index): {
            int(label): Prompt(
                np.asarray(shown["points"], np.float32).reshape(-1, 2),
                np.asarray(shown["positive"], np.bool_),
                None if shown["box"] is None else np.asarray(shown["box"], np.float32),
            )
            for label, shown in objects.items()
        }
        for index, objects in data.items()
    }


def options_as_json(options: Options) -> JSON:
    """The job's options as plain data."""
    return dict(_plain(asdict(options)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (frozenset, set)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    return value


def options_from_json(data: JSON) -> Options:
    """From `options_as_json`."""
    fill, write = dict(data["fill"]), dict(data["write"])
    objects = fill["objects"]
    fill["objects"] = None if objects is None else frozenset(objects)
    rest = {f.name: data[f.name] for f in fields(Options) if f.name not in ("fill", "write")}
    masks = rest["save_masks"]
    rest["save_masks"] = None if masks is None else Path(masks)
    rest["also"] = tuple(Also(**wanted) for wanted in rest["also"])
    rest["limits"] = Limits(**rest["limits"])
    return Options(fill=FillOptions(**fill), write=WriteOptions(**write), **rest)


def fingerprint(video: VideoReader) -> JSON:
    """What tells a clip from another one of the same name, without reading all of it."""
    size = os.path.getsize(video.path)
    hashed = hashlib.sha256()
    with video.path.open("rb") as file:
        for at in (0, size // 2, max(0, size - _SAMPLE)):
            file.seek(at)
            hashed.update(file.read(_SAMPLE))
    return {
        "bytes": size,
        "sha256_of_samples": hashed.hexdigest(),
        "frames": len(video),
        "width": video.width,
        "height": video.height,
    }
