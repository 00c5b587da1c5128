"""Mask2Former and Grounding DINO: tiny networks with random numbers, through the real loading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import texture

from inpainterz import engines, hub, weights
from inpainterz.errors import (
    EngineUnavailable,
    OptionError,
    WeightsCorrupt,
    WeightsError,
    WeightsMismatch,
    WeightsMissing,
)
from inpainterz.types import Frame

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}


def frames(count: int = 5, size: tuple[int, int] = (60, 90)) -> list[Frame]:
    image = texture(200, 200, 4)[: size[0], : size[1]]
    return [Frame(image, i, i, Fraction(1, 25), int(i >= 3)) for i in range(count)]


@pytest.fixture(scope="module")
def mask2former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("m2f") / "tiny"
    torch.manual_seed(3)
    config = transformers.Mask2FormerConfig(
        backbone_config=transformers.SwinConfig(
            **SWIN, out_features=["stage1", "stage2", "stage3", "stage4"]
        ),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        num_queries=6,
        id2label={0: "person", 1: "dog"},
        label2id={"person": 0, "dog": 1},
    )
    transformers.Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    transformers.Mask2FormerImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 96}, size_divisor=32
    ).save_pretrained(folder)
    return folder


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "person", "dog", "skate", "##board"]


@pytest.fixture(scope="module")
def grounding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gd") / "tiny"
    tokenizer = transformers.BertTokenizer({word: k for k, word in enumerate(WORDS)})
    torch.manual_seed(5)
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            **SWIN, out_features=["stage2", "stage3", "stage4"]
        ),
        text_config=transformers.BertConfig(
            vocab_size=len(WORDS),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=8,
        max_text_len=32,
    )
    transformers.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    transformers.GroundingDinoProcessor(
        transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}),
        tokenizer,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(params=["mask2former", "grounding-dino"])
def named(request: pytest.FixtureRequest) -> tuple[str, Path]:
    return request.param, request.getfixturevalue(
        "mask2former" if request.param == "mask2former" else "grounding"
    )


def test_it_looks_at_sampled_frames(named: tuple[str, Path]) -> None:
    name, folder = named
    options = {"model": str(folder), "threshold": 0.0, "names": ["person", "dog"]}
    if name == "grounding-dino":
        options["text_threshold"] = 0.0
    engine = engines.load("detect", name, device="cpu", options=options)
    assert engine.gap_s == 0.4
    taken = 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in frames():
            taken += 1
            yield frame

    seen = []
    for one in engine.detect(counted(), every=2):
        assert taken == one.index + 1  # it takes in nothing ahead
        seen.append(one)
    assert [(d.index, d.shot) for d in seen] == [(0, 0), (2, 0), (3, 1)]
    assert all(d.image.shape == (60, 90, 3) for d in seen)
    assert seen[0].found
    for detection in seen[0].found:
        assert detection.mask.shape == (60, 90) and detection.mask.any()
        assert detection.exact == (name == "mask2former")
        assert 0 <= detection.score <= 1
        x0, y0, x1, y1 = detection.box
        assert 0 <= x0 < x1 <= 90 and 0 <= y0 < y1 <= 60
    again = list(engine.detect(iter(frames()), every=2))
    for a, b in zip(seen[0].found, again[0].found, strict=True):
        assert (a.mask == b.mask).all() and a.score == b.score


def test_masks_are_the_networks_own(mask2former: Path) -> None:
    """Each mask against a direct computation."""
    engine = engines.load(
        "detect",
        "mask2former",
        device="cpu",
        options={"model": str(mask2former), "threshold": 0.0, "names": []},
    )
    image = frames(size=(60, 81))[0].image.copy()
    network = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(mask2former).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(mask2former)
    inputs = processor(images=image, return_tensors="pt")
    with torch.inference_mode():
        answer = network(**inputs)
    rows = int(inputs["pixel_mask"][0].any(1).sum())
    columns = int(inputs["pixel_mask"][0].any(0).sum())
    logits = torch.nn.functional.interpolate(
        answer.masks_queries_logits, inputs["pixel_values"].shape[-2:], mode="bilinear"
    )[..., :rows, :columns]
    logits = torch.nn.functional.interpolate(logits, image.shape[:2], mode="bilinear")[0]
    expected = [(one > 0).numpy() for one in logits]
    frame = Frame(image, 0, 0, Fraction(1, 25))
    (seen,) = engine.detect([frame], every=1)
    assert seen.found
    for detection in seen.found:
        assert max(float((detection.mask == one).mean()) for one in expected) > 0.999


def test_no_such_thing_is_told_with_what_there_is(mask2former: Path) -> None:
    with pytest.raises(OptionError, match=r"does not know what 'unicorn' is.*dog, person"):
        engines.load(
            "detect",
            "mask2former",
            device="cpu",
            options={"model": str(mask2former), "names": ["unicorn"]},
        )


def test_the_users_own_words_name_the_boxes(grounding: Path) -> None:
    engine = engines.load(
        "detect",
        "grounding-dino",
        device="cpu",
        options={
            "model": str(grounding),
            "names": ["Dog", "skateboard"],
            "threshold": 0.0,
            "text_threshold": 0.0,
        },
    )
    (seen, *_) = engine.detect(iter(frames()), every=9)
    assert {d.name for d in seen.found} <= {"dog", "skateboard"}
    assert engine.options.text == "dog. skateboard."  # type: ignore[attr-defined]


def test_weights_of_another_network(named: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = named
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    told = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**told, "model_type": "sam2"}))
    with pytest.raises(WeightsMismatch, match="kind sam2"):
        engines.load("detect", name, device="cpu", options={"model": str(copy)})
    field = "hidden_dim" if name == "mask2former" else "d_model"
    (copy / "config.json").write_text(json.dumps({**told, field: 64}))
    with pytest.raises(WeightsMismatch, match="not the weights"):
        engines.load("detect", name, device="cpu", options={"model": str(copy)})
    layers = "decoder_layers"
    (copy / "config.json").write_text(json.dumps({**told, layers: told[layers] + 1}))
    with pytest.raises(WeightsMismatch, match="missing"):
        engines.load("detect", name, device="cpu", options={"model": str(copy)})


def test_half_a_file_no_file_and_a_pickle(named: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = named
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsCorrupt, match="damaged or cut"):
        engines.load("detect", name, device="cpu", options={"model": str(copy)})
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")  # never read: it could run code
    with pytest.raises(WeightsError, match=r"holds no model\.safetensors"):
        engines.load("detect", name, device="cpu", options={"model": str(copy)})
    (copy / "config.json").write_text("[")
    with pytest.raises(WeightsCorrupt, match="description"):
        engines.load("detect", name, device="cpu", options={"model": str(copy)})
    (copy / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"no config\.json"):
        engines.load("detect", name, device="cpu", options={"model": str(copy)})
    with pytest.raises(WeightsError, match="no folder"):
        engines.load("detect", name, device="cpu", options={"model": str(tmp_path / "no such")})


def test_a_hub_model_that_is_not_there_is_one_sentence(
    named: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"nobody/nothing cannot be had from the hub") as told:
        engines.load("detect", named[0], device="cpu", options={"model": "nobody/nothing"})
    assert "\n" not in str(told.value) and len(str(told.value)) < 400


def test_without_the_package_and_without_weights(
    named: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, folder = named
    monkeypatch.setenv("INPAINTERZ_WEIGHTS", str(tmp_path))
    if weights.find(name) is None:
        with pytest.raises(WeightsMissing, match=f"inpainterz weights fetch {name}"):
            engines.load("detect", name)
    find_spec = hub.importlib.util.find_spec
    monkeypatch.setattr(
        hub.importlib.util, "find_spec", lambda n: None if n == "transformers" else find_spec(n)
    )
    with pytest.raises(EngineUnavailable, match="pip install transformers"):
        engines.load("detect", name, device="cpu", options={"model": str(folder)})


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 2},
        {"gap_s": 0},
        {"max_side_px": 1},
        {"precision": "fp8"},
        {"names": 3},
        {"names": [1]},
    ],
)
def test_options_are_checked(named: tuple[str, Path], options: dict[str, object]) -> None:
    name, folder = named
    with pytest.raises(OptionError):
        engines.load("detect", name, device="cpu", options={"model": str(folder), **options})


def test_a_folder_put_there_by_hand_is_found_and_checked(
    mask2former: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INPAINTERZ_WEIGHTS", str(tmp_path))
    card = weights.card("mask2former")
    target = tmp_path / card.file
    shutil.copytree(mask2former, target)
    assert weights.locate("mask2former") == target
    assert np.any([d.found for d in engines.load(
        "detect", "mask2former", device="cpu", options={"threshold": 0.0}
    ).detect(iter(frames()), every=1)])  # fmt: skip
    whole = (target / "model.safetensors").read_bytes()
    (target / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(WeightsCorrupt, match="bytes"):
        weights.locate("mask2former")
    (target / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing):
        weights.locate("mask2former")
