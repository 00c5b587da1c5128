"""SAM: the same numbers as the authors' own predictor, and the promises of a segmenter."""

from __future__ import annotations

import shutil
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from segmenting import check_hostile_clicks, check_many_boxes, picture

from inpainterz.errors import (
    EngineUnavailable,
    OptionError,
    PromptError,
    WeightsCorrupt,
    WeightsMismatch,
)
from inpainterz.types import Prompt

torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")

from segment_anything import SamPredictor, sam_model_registry  # noqa: E402
from segment_anything.modeling import (  # noqa: E402
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from inpainterz.segment import promptable, sam  # noqa: E402

WORST = 1e-3
"""Largest difference of a logit that counts as the same, in float32."""


def tiny(width: int = 48) -> Sam:
    """SAM from the package's own parts: 256x256 input, one window block and two global ones."""
    return Sam(
        image_encoder=ImageEncoderViT(
            depth=3,
            embed_dim=width,
            img_size=256,
            mlp_ratio=2,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=3,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=(0, 2),
            window_size=6,
            out_chans=256,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=256,
            image_embedding_size=(16, 16),
            input_image_size=(256, 256),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=256, num_heads=8),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )


def fill(network: Sam) -> Sam:
    """Give a network numbers that depend on nothing but the names of its tensors."""
    state = {}
    for name, value in network.state_dict().items():
        noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(value.shape)
        if value.ndim >= 2 and "rel_pos" not in name and "embed" not in name:
            noise /= np.sqrt(np.prod(value.shape[1:]))
        elif value.ndim == 1 and name.endswith("weight"):
            noise = 1 + 0.1 * noise
        elif value.ndim == 1:
            noise = 0.1 * noise
        if name.startswith("mask_decoder.output_hypernetworks_mlps") and "layers.2.weight" in name:
            noise = 8 * noise  # logits of some size, as those of the real network
        state[name] = torch.from_numpy(noise.astype(np.float32))
    network.load_state_dict(state, strict=True)
    return network.eval()


def engine(precision: str = "fp32", name: str = "sam-vit-b") -> sam.SamSegmenter:
    network = fill(tiny())
    sam.lighten(network)
    return sam.SamSegmenter(network, sam.Options(precision=precision), name=name)


@pytest.fixture(scope="module")
def ours() -> sam.SamSegmenter:
    return engine()


@pytest.fixture(scope="module")
def theirs() -> SamPredictor:
    return SamPredictor(fill(tiny()))


def compare(
    ours: sam.SamSegmenter, theirs: SamPredictor, image: np.ndarray, clicks: list[dict[str, Any]]
) -> float:
    """Run a chain of prompts through both; the largest difference of a logit."""
    theirs.set_image(image)
    embedding = ours.embed(image)
    worst = float((embedding.maps[0] - theirs.features).abs().max())
    previous, low = None, None
    for prompt in clicks:
        points = np.asarray(prompt.get("points", []), np.float32).reshape(-1, 2)
        positive = np.asarray(prompt.get("positive", [True] * len(points)), np.bool_)
        box = None if "box" not in prompt else np.asarray(prompt["box"], np.float32)
        several = len(points) == 1 and box is None and low is None
        logits, scores, lows = theirs.predict(
            points if len(points) else None,
            positive.astype(int) if len(points) else None,
            box,
            low,
            multimask_output=several,
            return_logits=True,
        )
        given = Prompt(points, positive, box)
        proposals = ours.propose(embedding, given, previous)
        assert proposals.logits.shape == lows.shape
        worst = max(worst, float(np.abs(proposals.logits.numpy() - lows).max()))
        worst = max(worst, float(np.abs(proposals.scores - scores).max()))
        upscaled = ours.upscale(proposals.logits, embedding).numpy()
        worst = max(worst, float(np.abs(upscaled - logits).max()))
        best = int(np.argmax(scores))
        previous = ours.segment(embedding, given, previous)
        assert previous.mask.shape == image.shape[:2] and previous.mask.dtype == np.bool_
        sure = np.abs(logits[best]) > WORST
        assert np.array_equal(previous.mask[sure], (logits[best] > 0)[sure])
        assert previous.score == pytest.approx(min(max(scores[best], 0), 1), abs=WORST)
        low = lows[best][None]
    return worst


CHAIN: list[dict[str, Any]] = [
    {"points": [(60, 40)]},
    {"points": [(60, 40), (80, 42)]},
    {"points": [(60, 40), (80, 42), (10, 80)], "positive": [True, True, False]},
]


@pytest.mark.parametrize(
    "clicks",
    [
        CHAIN,
        [{"points": [(60, 40), (80.5, 42.25)]}],
        [{"box": (20, 10, 100, 70)}],
        [{"points": [(60, 40)], "box": (20, 10, 100, 70)}],
        [{"points": [(30, 30)], "positive": [False], "box": (20, 10, 100, 70)}],
        [{"points": [(60, 40)]}, {"points": [(60, 40)], "box": (20, 10, 100, 70)}],
    ],
    ids=["chain", "two at once", "box", "box and click", "box and not", "click, then box"],
)
def test_same_numbers_as_the_authors_predictor(
    ours: sam.SamSegmenter, theirs: SamPredictor, clicks: list[dict[str, Any]]
) -> None:
    assert compare(ours, theirs, picture(), clicks) <= WORST


@pytest.mark.parametrize("size", [(151, 91), (64, 64), (31, 200), (500, 333)])
def test_same_numbers_at_any_size(
    ours: sam.SamSegmenter, theirs: SamPredictor, size: tuple[int, int]
) -> None:
    centre = (size[1] / 2, size[0] / 2)
    assert compare(ours, theirs, picture(*size), [{"points": [centre]}]) <= WORST


@pytest.mark.slow
def test_same_numbers_in_vit_b() -> None:
    ours = fill(sam_model_registry["vit_b"]())
    theirs = SamPredictor(fill(sam_model_registry["vit_b"]()))
    sam.lighten(ours)
    segmenter = sam.SamSegmenter(ours, sam.Options(precision="fp32"), name="sam-vit-b")
    assert compare(segmenter, theirs, picture(272, 640), CHAIN[:2]) <= WORST


def test_the_comparison_would_notice(ours: sam.SamSegmenter, theirs: SamPredictor) -> None:
    """The masks depend on the frame, the clicks and the last answer, far more than WORST."""
    one, other = ours.embed(picture()), ours.embed(picture(seed=1))
    click, twice = Prompt.of((60, 40)), Prompt.of((60, 40), (80, 42))
    first = ours.segment(one, click)
    base = ours.propose(one, twice).logits
    for changed in (
        ours.propose(other, twice),
        ours.propose(one, Prompt.of((60, 40), (81, 43))),
        ours.propose(one, Prompt.of((60, 40), off=((80, 42),))),
        ours.propose(one, twice, first),
    ):
        assert float((changed.logits - base).abs().max()) > 20 * WORST
    assert 0.02 < first.mask.mean() < 0.98


def test_a_kept_embedding_is_small_and_on_the_cpu() -> None:
    segmenter = engine("auto")
    embedding = segmenter.embed(picture())
    assert embedding.maps[0].dtype == torch.float16
    assert embedding.maps[0].device.type == "cpu"
    exact = engine("fp32")
    prompt = Prompt.of((60, 40), (80, 42))
    mask = segmenter.segment(embedding, prompt).mask
    same = exact.segment(exact.embed(picture()), prompt).mask
    assert (mask & same).sum() / (mask | same).sum() > 0.995


def test_bf16_is_near(ours: sam.SamSegmenter) -> None:
    network = fill(tiny())
    sam.lighten(network)
    half = sam.SamSegmenter(
        network, sam.Options(precision="bf16"), name="sam-vit-b", dtype=torch.bfloat16
    )
    prompt = Prompt.of((60, 40), (80, 42))
    mask = half.segment(half.embed(picture()), prompt).mask
    same = ours.segment(ours.embed(picture()), prompt).mask
    assert (mask & same).sum() / (mask | same).sum() > 0.9


def test_frames_do_not_mix(ours: sam.SamSegmenter) -> None:
    """Two users of one network: each answer depends on the embedding that was handed in."""
    prompt = Prompt.of((60, 40))
    one, other = ours.embed(picture()), ours.embed(picture(seed=1))
    alone = ours.segment(one, prompt).mask
    ours.segment(other, Prompt.of((20, 20)))
    assert np.array_equal(ours.segment(one, prompt).mask, alone)


def test_an_undone_click_is_forgotten(ours: sam.SamSegmenter) -> None:
    embedding = ours.embed(picture())
    first = ours.segment(embedding, Prompt.of((60, 40)))
    second = ours.segment(embedding, Prompt.of((60, 40), (80, 42)), first)
    undone = ours.segment(embedding, Prompt.of((60, 40)), second)
    assert np.array_equal(undone.mask, first.mask)
    boxed = ours.segment(embedding, Prompt.of(box=(20, 10, 100, 70)))
    moved = Prompt.of(box=(30, 10, 120, 70))
    fresh, after = ours.propose(embedding, moved), ours.propose(embedding, moved, boxed)
    assert torch.equal(fresh.logits, after.logits)


def test_the_answer_of_another_frame_size_is_left_out(ours: sam.SamSegmenter) -> None:
    embedding = ours.embed(picture())
    foreign = ours.segment(ours.embed(picture(80, 150)), Prompt.of((60, 40)))
    twice = Prompt.of((60, 40), (80, 42))
    with_it = ours.propose(embedding, twice, foreign)
    assert torch.equal(with_it.logits, ours.propose(embedding, twice).logits)


def test_many_boxes(ours: sam.SamSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promptable, "BOXES_AT_ONCE", 2)
    check_many_boxes(ours, WORST)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt.of(),
        Prompt.of(off=((10, 10),)),
        Prompt.of((150, 10)),
        Prompt.of((10, -1)),
        Prompt.of((float("nan"), 10)),
        Prompt.of(box=(50, 50, 50, 60)),
        Prompt.of(box=(200, 200, 300, 300)),
        Prompt.of(box=(0, 0, float("inf"), 10)),
        Prompt(np.zeros((2, 2), np.float32), np.ones(1, np.bool_)),
    ],
)
def test_bad_prompts(ours: sam.SamSegmenter, prompt: Prompt) -> None:
    embedding = ours.embed(picture())
    with pytest.raises(PromptError):
        ours.segment(embedding, prompt)


def test_no_picture_no_place_and_a_hundred_clicks(ours: sam.SamSegmenter) -> None:
    check_hostile_clicks(ours)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (3, 5)])
def test_tiny_and_thin_frames(ours: sam.SamSegmenter, size: tuple[int, int]) -> None:
    answer = ours.segment(ours.embed(np.zeros((*size, 3), np.uint8)), Prompt.of((0, 0)))
    assert answer.mask.shape == size


def test_an_embedding_of_another_engine(ours: sam.SamSegmenter) -> None:
    other = engine(name="sam-vit-l").embed(picture())
    for foreign in (other, object()):
        with pytest.raises(PromptError, match="another engine"):
            ours.segment(foreign, Prompt.of((1, 1)))  # type: ignore[arg-type]


def test_a_view_of_a_frame(ours: sam.SamSegmenter) -> None:
    image = picture()
    flipped = ours.embed(image[:, ::-1])
    assert torch.equal(flipped.maps[0], ours.embed(image[:, ::-1].copy()).maps[0])


# Built from a file --------------------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package builds the tiny network in place of ViT-B, a wider one in place of ViT-L."""
    monkeypatch.setitem(sam_model_registry, "vit_b", tiny)
    monkeypatch.setitem(sam_model_registry, "vit_l", lambda: tiny(96))


def save(path: Path, network: Sam, change: Callable[[dict[str, Any]], object] = bool) -> Path:
    state = dict(network.state_dict())
    change(state)
    torch.save(state, path)
    return path


def test_create(registry: None, tmp_path: Path, theirs: SamPredictor) -> None:
    path = save(tmp_path / "sam_vit_b_01ec64.pth", fill(tiny()))
    made = sam.create(sam.Options(precision="fp32"), device="cpu", weights=path)
    assert compare(made, theirs, picture(), CHAIN) <= WORST


def test_the_variant_is_told_by_the_name_else_by_the_width(
    registry: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = save(tmp_path / "sam_vit_l_0b3195.pth", fill(tiny(96)))
    options = sam.Options()
    assert sam.create(options, device="cpu", weights=wide).embed(picture()).network == "sam-vit-l"
    monkeypatch.setattr(sam, "WIDTHS", {48: "sam-vit-b", 96: "sam-vit-l"})
    wide = wide.rename(tmp_path / "mine.pth")
    assert sam.create(options, device="cpu", weights=wide).embed(picture()).network == "sam-vit-l"


def test_weights_of_another_variant(registry: None, tmp_path: Path) -> None:
    path = save(tmp_path / "sam_vit_b_01ec64.pth", fill(tiny(96)))
    with pytest.raises(WeightsMismatch, match="sam-vit-b"):
        sam.create(sam.Options(), device="cpu", weights=path)


def test_wrong_and_half_files(registry: None, tmp_path: Path) -> None:
    path = tmp_path / "sam_vit_b_01ec64.pth"
    save(path, fill(tiny()), lambda state: state.pop("image_encoder.pos_embed"))
    with pytest.raises(WeightsMismatch, match=r"missing: image_encoder\.pos_embed"):
        sam.create(sam.Options(), device="cpu", weights=path)
    save(path, fill(tiny()), lambda state: state.update(more=torch.zeros(1)))
    with pytest.raises(WeightsMismatch, match="unexpected: more"):
        sam.create(sam.Options(), device="cpu", weights=path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsCorrupt):
        sam.create(sam.Options(), device="cpu", weights=path)


def test_options_and_devices(
    registry: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError):
        sam.Options(precision="int8")
    path = save(tmp_path / "sam_vit_b_01ec64.pth", fill(tiny()))
    with pytest.raises(EngineUnavailable, match="fp16"):
        sam.create(sam.Options(precision="fp16"), device="cpu", weights=path)
    if not torch.cuda.is_available():
        with pytest.raises(EngineUnavailable, match="CUDA"):
            sam.create(sam.Options(), device="cuda", weights=path)
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(EngineUnavailable, match="pip install segment-anything"):
        sam.create(sam.Options(), device="cpu", weights=path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the compiler are not ours
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.compiles
def test_a_compiled_encoder_gives_the_same(
    registry: None, tmp_path: Path, ours: sam.SamSegmenter
) -> None:
    path = save(tmp_path / "sam_vit_b_01ec64.pth", fill(tiny()))
    options = sam.Options(precision="fp32", compile=True)
    compiled = sam.create(options, device="cpu", weights=path).embed(picture()).maps[0]
    assert float((compiled - ours.embed(picture()).maps[0]).abs().max()) <= WORST


@pytest.mark.gpu
def test_cuda_is_near() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    network = fill(tiny()).cuda()
    sam.lighten(network)
    segmenter = sam.SamSegmenter(network, sam.Options(), name="sam-vit-b", dtype=torch.bfloat16)
    reference = engine()
    prompt = Prompt.of((60, 40), (80, 42))
    mask = segmenter.segment(segmenter.embed(picture()), prompt).mask
    same = reference.segment(reference.embed(picture()), prompt).mask
    assert (mask & same).sum() / (mask | same).sum() > 0.9
