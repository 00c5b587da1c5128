"""SAM 2.1, EdgeTAM and SAM-HQ: tiny networks with random numbers, through the real loading."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from segmenting import check_hostile_clicks, check_many_boxes, picture

from inpainterz import engines, hub, weights
from inpainterz.errors import (
    EngineUnavailable,
    OptionError,
    PromptError,
    WeightsCorrupt,
    WeightsError,
    WeightsMismatch,
)
from inpainterz.types import Prompt

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
promptable = pytest.importorskip("inpainterz.segment.promptable")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

HAS_TIMM = importlib.util.find_spec("timm") is not None
KINDS = ("sam2", "edgetam", "sam_hq") if HAS_TIMM else ("sam2", "sam_hq")
WORST = 1e-3
"""Largest difference of a logit that counts as the same, in float32."""
SIDE = 128

BACKBONE = {
    "image_size": [SIDE, SIDE],
    "hidden_size": 16,
    "num_attention_heads": 1,
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [16, 32, 64, 128],
    "num_attention_heads_per_stage": [1, 2, 4, 8],
    "window_size_per_stage": [8, 4, 4, 2],
    "global_attention_blocks": [3],
}
PROMPTS = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16}
DECODER = {
    "hidden_size": 32,
    "mlp_dim": 64,
    "num_attention_heads": 4,
    "iou_head_hidden_dim": 32,
}


def vision2() -> Any:
    return transformers.Sam2VisionConfig(
        backbone_config=transformers.Sam2HieraDetConfig(**BACKBONE),
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[SIDE // k] * 2 for k in (4, 8, 16)],
        fpn_hidden_size=32,
    )


def edge() -> Any:
    """EdgeTAM's image encoder, of one block a stage."""
    encoder = transformers.TimmWrapperConfig(
        architecture="repvit_m1",
        model_args={
            "in_chans": 3,
            "features_only": True,
            "out_indices": [0, 1, 2, 3],
            "embed_dim": [8, 16, 24, 32],
            "depth": [1, 1, 1, 1],
        },
    )
    return transformers.EdgeTamVisionConfig(
        backbone_config=encoder,
        backbone_channel_list=[32, 24, 16, 8],
        backbone_feature_sizes=[[SIDE // k] * 2 for k in (4, 8, 16)],
        fpn_hidden_size=32,
    )


def tiny(kind: str) -> Any:
    """A small network of each kind, with numbers that make masks differ from place to place."""
    torch.manual_seed(4)
    if kind == "sam2":
        network = transformers.Sam2Model(
            transformers.Sam2Config(
                vision_config=vision2(),
                prompt_encoder_config=transformers.Sam2PromptEncoderConfig(**PROMPTS),
                mask_decoder_config=transformers.Sam2MaskDecoderConfig(**DECODER),
            )
        )
    elif kind == "edgetam":
        network = transformers.EdgeTamModel(
            transformers.EdgeTamConfig(
                vision_config=edge(),
                prompt_encoder_config=transformers.EdgeTamPromptEncoderConfig(**PROMPTS),
                mask_decoder_config=transformers.EdgeTamMaskDecoderConfig(**DECODER),
            )
        )
    else:
        network = transformers.SamHQModel(
            transformers.SamHQConfig(
                vision_config=transformers.SamHQVisionConfig(
                    hidden_size=48,
                    output_channels=32,
                    num_hidden_layers=3,
                    num_attention_heads=3,
                    image_size=SIDE,
                    window_size=4,
                    global_attn_indexes=[0, 2],
                    num_pos_feats=16,
                    mlp_dim=64,
                ),
                prompt_encoder_config=transformers.SamHQPromptEncoderConfig(**PROMPTS),
                mask_decoder_config=transformers.SamHQMaskDecoderConfig(**DECODER, vit_dim=48),
            )
        )
    for parameter in network.parameters():
        if parameter.ndim >= 2 and not parameter.requires_grad:
            continue
        with torch.no_grad():
            if parameter.ndim >= 2:
                parameter.normal_(0, 1.5 / float(np.prod(parameter.shape[1:])) ** 0.5)
    if kind == "edgetam":
        settle(network)
    return network.eval()


def settle(network: Any) -> None:
    """Fit the normalisations of the image encoder to its numbers: pictures shall differ."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(1)
        network.train()
        for _ in range(8):
            network.vision_encoder(torch.randn(2, 3, SIDE, SIDE))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind in KINDS:
        made[kind] = tmp_path_factory.mktemp(kind) / "tiny"
        tiny(kind).save_pretrained(made[kind])
    return made


ENGINE = {"sam2": "sam2.1-s", "edgetam": "edgetam", "sam_hq": "sam-hq-b"}
KIND = {"sam2": "Sam2Model", "edgetam": "EdgeTamModel", "sam_hq": "SamHQModel"}


def load(kind: str, folder: Path, precision: str = "fp32") -> Any:
    return engines.load(
        "segment",
        ENGINE[kind],
        device="cpu",
        options={"model": str(folder), "precision": precision},
    )


@pytest.fixture(
    params=[
        "sam2",
        pytest.param(
            "edgetam", marks=pytest.mark.skipif(not HAS_TIMM, reason="timm is not installed")
        ),
        "sam_hq",
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def loaded(folders: dict[str, Path]) -> dict[str, Any]:
    return {kind: load(kind, folder) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def direct(folders: dict[str, Path]) -> dict[str, Any]:
    """The networks as the package itself loads them."""
    return {
        kind: getattr(transformers, KIND[kind]).from_pretrained(folder).eval()
        for kind, folder in folders.items()
    }


@pytest.fixture
def ours(kind: str, loaded: dict[str, Any]) -> Any:
    return loaded[kind]


CHAIN: list[dict[str, Any]] = [
    {"points": [(60, 40)]},
    {"points": [(60, 40), (80, 42)]},
    {"points": [(60, 40), (80, 42), (10, 80)], "signs": [1, 1, 0]},
]


@pytest.mark.parametrize(
    "clicks",
    [
        CHAIN,
        [{"box": (20, 10, 100, 70)}],
        [{"points": [(60, 40)], "box": (20, 10, 100, 70)}],
        [{"points": [(30, 30)], "signs": [0], "box": (20, 10, 100, 70)}],
        [{"points": [(60, 40)]}, {"points": [(60, 40)], "box": (20, 10, 100, 70)}],
    ],
    ids=["chain", "box", "box and click", "box and not", "click, then box"],
)
@pytest.mark.parametrize("size", [(90, 150), (151, 111)])
def test_same_numbers_as_the_model_called_directly(
    kind: str,
    ours: Any,
    direct: dict[str, Any],
    clicks: list[dict[str, Any]],
    size: tuple[int, int],
) -> None:
    """Against the package's processor, network and post-processing on the picture itself."""
    network = direct[kind]
    if kind != "sam_hq":
        processor = transformers.Sam2Processor(
            transformers.Sam2ImageProcessor(size={"height": SIDE, "width": SIDE}), target_size=SIDE
        )
    else:
        processor = transformers.SamHQProcessor(
            transformers.SamImageProcessor(
                size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}
            )
        )
        processor.target_size = SIDE
    image = picture(*size)
    embedding = ours.embed(image)
    previous, low = None, None
    for k, prompt in enumerate(clicks):
        points, box = prompt.get("points", []), prompt.get("box")
        signs = prompt.get("signs", [1] * len(points))
        given: dict[str, Any] = {}
        if points:
            given["input_points"] = [[[[float(x), float(y)] for x, y in points]]]
            given["input_labels"] = [[signs]]
            if kind == "sam_hq":
                given["input_points"], given["input_labels"] = (
                    [[[float(x), float(y)] for x, y in points]],
                    [signs],
                )
        if box is not None:
            given["input_boxes"] = [[[float(v) for v in box]]]
        inputs = processor(images=image, return_tensors="pt", **given)
        tensors = {
            key: value.float() if value.is_floating_point() else value
            for key, value in inputs.items()
            if key in ("pixel_values", "input_points", "input_labels", "input_boxes")
        }
        if "input_points" in tensors and tensors["input_points"].ndim == 3:
            tensors["input_points"] = tensors["input_points"][:, None]
            tensors["input_labels"] = tensors["input_labels"][:, None]
        several = k == 0 and len(points) == 1 and box is None
        with torch.inference_mode():
            told = network(
                **tensors,
                input_masks=None if low is None else low[None, None],
                multimask_output=several,
            )
        sizes = [torch.tensor([size])]
        if kind == "sam_hq":
            sizes.append(inputs["reshaped_input_sizes"])
        rest = {"pad_size": {"height": SIDE, "width": SIDE}} if kind == "sam_hq" else {}
        (whole,) = processor.image_processor.post_process_masks(
            told.pred_masks, *sizes, binarize=False, **rest
        )
        given_ours = Prompt(
            np.asarray(points, np.float32).reshape(-1, 2),
            np.asarray(signs, np.bool_),
            None if box is None else np.asarray(box, np.float32),
        )
        proposals = ours.propose(embedding, given_ours, previous)
        assert len(proposals.logits) == (3 if several else 1)
        assert (proposals.logits - told.pred_masks[0, 0]).abs().max() <= WORST
        scores = told.iou_scores[0, 0].numpy()
        assert np.abs(proposals.scores - scores).max() <= WORST
        upscaled = ours.upscale(proposals.logits, embedding)
        assert upscaled.shape[-2:] == size
        assert (upscaled - whole[0]).abs().max() <= WORST
        best = int(np.argmax(scores))
        previous = ours.segment(embedding, given_ours, previous)
        sure = whole[0][best].abs().numpy() > WORST
        assert np.array_equal(previous.mask[sure], (whole[0][best] > 0).numpy()[sure])
        assert previous.score == pytest.approx(float(np.clip(scores[best], 0, 1)), abs=WORST)
        low = told.pred_masks[0, 0][best].clamp(-32, 32)


def test_many_boxes(ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promptable, "BOXES_AT_ONCE", 2)
    check_many_boxes(ours, WORST)


def test_the_comparison_would_notice(ours: Any) -> None:
    one, other = ours.embed(picture()), ours.embed(picture(seed=1))
    twice = Prompt.of((60, 40), (80, 42))
    first = ours.segment(one, Prompt.of((60, 40)))
    base = ours.propose(one, twice).logits
    for changed in (
        ours.propose(other, twice),
        ours.propose(one, Prompt.of((60, 40), (20, 70))),
        ours.propose(one, Prompt.of((60, 40), off=((80, 42),))),
        ours.propose(one, twice, first),
    ):
        assert float((changed.logits - base).abs().max()) > 5 * WORST


def test_a_kept_embedding_is_half_and_on_the_cpu(kind: str, folders: dict[str, Path]) -> None:
    embedding = load(kind, folders[kind], "auto").embed(picture())
    assert all(m.dtype == torch.float16 and m.device.type == "cpu" for m in embedding.maps)
    assert embedding.nbytes == sum(2 * m.numel() for m in embedding.maps)


def test_frames_and_networks_do_not_mix(ours: Any, loaded: dict[str, Any]) -> None:
    one = ours.embed(picture())
    alone = ours.segment(one, Prompt.of((60, 40)))
    ours.segment(ours.embed(picture(seed=1)), Prompt.of((20, 20)))
    assert np.array_equal(ours.segment(one, Prompt.of((60, 40))).mask, alone.mask)
    for foreign in (object(), None):
        with pytest.raises(PromptError, match="another engine"):
            ours.segment(foreign, Prompt.of((1, 1)))
    two, hq = loaded["sam2"], loaded["sam_hq"]
    with pytest.raises(PromptError, match="another engine"):
        hq.segment(two.embed(picture()), Prompt.of((1, 1)))
    twice = Prompt.of((60, 40), (80, 42))
    foreign = two.segment(two.embed(picture()), Prompt.of((60, 40)))
    seen = hq.embed(picture())
    assert torch.equal(hq.propose(seen, twice, foreign).logits, hq.propose(seen, twice).logits)


def test_an_undone_click_is_forgotten(ours: Any) -> None:
    embedding = ours.embed(picture())
    first = ours.segment(embedding, Prompt.of((60, 40)))
    second = ours.segment(embedding, Prompt.of((60, 40), (80, 42)), first)
    assert np.array_equal(ours.segment(embedding, Prompt.of((60, 40)), second).mask, first.mask)


def test_no_picture_no_place_and_a_hundred_clicks(ours: Any) -> None:
    check_hostile_clicks(ours)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 5)])
def test_tiny_and_thin_frames(ours: Any, size: tuple[int, int]) -> None:
    answer = ours.segment(ours.embed(np.zeros((*size, 3), np.uint8)), Prompt.of((0, 0)))
    assert answer.mask.shape == size and answer.mask.dtype == np.bool_


def test_a_folder_of_the_network_for_clips(
    kind: str, tmp_path: Path, folders: dict[str, Path], ours: Any
) -> None:
    """The hub's folders of SAM 2.1 are of the kind sam2_video and hold a memory besides."""
    if kind == "sam_hq":
        return  # there is none for clips
    copy = tmp_path / "clips"
    shutil.copytree(folders[kind], copy)
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    more = {"memory_attention.layer_norm.weight": torch.ones(4), "no_object_pointer": torch.ones(4)}
    save_file({**state, **more}, copy / "model.safetensors", metadata={"format": "pt"})
    told = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**told, "model_type": f"{kind}_video"}))
    prompt = Prompt.of((60, 40))
    one = load(kind, copy)
    mask = one.segment(one.embed(picture()), prompt).mask
    assert np.array_equal(mask, ours.segment(ours.embed(picture()), prompt).mask)


def test_weights_of_another_network(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="of the kind"):
        load(kind, folders["sam_hq" if kind == "sam2" else "sam2"])
    copy = tmp_path / "copy"
    shutil.copytree(folders[kind], copy)
    told = json.loads((copy / "config.json").read_text())
    told["mask_decoder_config"]["iou_head_hidden_dim"] = 48
    (copy / "config.json").write_text(json.dumps(told))
    with pytest.raises(WeightsMismatch, match="not the weights"):
        load(kind, copy)
    told["mask_decoder_config"]["iou_head_hidden_dim"] = 32
    told["mask_decoder_config"]["num_hidden_layers"] = 3
    (copy / "config.json").write_text(json.dumps(told))
    with pytest.raises(WeightsMismatch, match="missing"):
        load(kind, copy)


def test_half_a_file_and_no_file(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folders[kind], copy)
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsCorrupt, match="damaged or cut"):
        load(kind, copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"holds no model\.safetensors"):
        load(kind, copy)


def test_a_hub_model_that_is_not_there(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"nobody/nothing cannot be had") as told:
        load(kind, Path("nobody/nothing"))
    assert "\n" not in str(told.value) and len(str(told.value)) < 400


def test_no_network_is_told_at_once_and_what_was_fetched_serves(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    asked = 0

    def nobody(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        raise socket.gaierror(-2, "Name or service not known")

    def no_waiting(_: float) -> None:
        raise AssertionError("it waits for a network that is not there")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    monkeypatch.setattr(time, "sleep", no_waiting)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="had from the hub: the hub cannot be reached") as told:
        load("sam2", Path("nobody/nothing"))
    assert 1 <= asked <= 2 and "\n" not in str(told.value)
    kept = tmp_path / "models--owner--tiny"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("a" * 40)
    shutil.copytree(folders["sam2"], kept / "snapshots" / ("a" * 40))
    engine = load("sam2", Path("owner/tiny"))
    assert engine.segment(engine.embed(picture()), Prompt.of((3, 3))).mask.shape == (90, 150)


def test_a_folder_put_there_by_hand(
    kind: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INPAINTERZ_WEIGHTS", str(tmp_path))
    card = engines.find("segment", ENGINE[kind]).weights
    assert card is not None and weights.card(card).commercial
    shutil.copytree(folders[kind], tmp_path / weights.card(card).file)
    engine = engines.load("segment", ENGINE[kind], device="cpu")
    assert engine.segment(engine.embed(picture()), Prompt.of((3, 3))).mask.shape == (90, 150)


def test_options_and_packages(
    kind: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for bad in ({"precision": "int8"}, {"model": 3}, {"colour": 1}):
        with pytest.raises(OptionError):
            engines.load("segment", ENGINE[kind], options={"model": str(folders[kind]), **bad})
    with pytest.raises(EngineUnavailable, match="fp16"):
        load(kind, folders[kind], "fp16")
    find_spec = hub.importlib.util.find_spec
    for package in ("transformers", "timm") if kind == "edgetam" else ("transformers",):
        monkeypatch.setattr(
            hub.importlib.util,
            "find_spec",
            lambda n, package=package: None if n == package else find_spec(n),
        )
        with pytest.raises(EngineUnavailable, match=f"pip install {package}"):
            load(kind, folders[kind])
