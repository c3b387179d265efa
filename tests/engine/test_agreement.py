import numpy as np
import onnx
import pytest

from flair_engine.agreement import (
    LabelDifference,
    compare,
    difference_of,
    in_fp32,
    noise_tiles,
)
from flair_engine.errors import EngineError
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import read_model_spec


@pytest.fixture
def spec(tiny_path):
    return read_model_spec(tiny_path)


def labels(*values):
    return np.array(values, np.uint8)


def test_shares_are_overall_and_by_the_class_of_the_reference(spec):
    pairs = [(labels(1, 1, 1, 3), labels(1, 1, 3, 3)), (labels(3, 3, 3, 3), labels(3, 3, 3, 1))]
    agreement = compare(spec, "images", pairs)
    assert (agreement.tiles, agreement.pixels) == (2, 8)
    assert agreement.share == 6 / 8
    assert agreement.difference == LabelDifference(pixels=8, different=2, lower=1)
    assert agreement.share_by_class == {"first": 2 / 3, "third": 4 / 5}
    assert str(agreement) == (
        "75.000% of labels agree with FP32 on 2 tiles of images, least for first (66.67%); "
        "50% of the others are the lower class"
    )


@pytest.mark.parametrize(
    ("origin", "wrong", "passes"),
    [("images", 5, True), ("images", 6, False), ("noise", 100, True), ("noise", 101, False)],
)
def test_images_must_agree_and_noise_must_resemble(spec, origin, wrong, passes):
    found = np.ones(1000, np.uint8)
    found[:wrong] = 3
    agreement = compare(spec, origin, [(np.ones(1000, np.uint8), found)])
    if passes:
        agreement.check("a plan")
        return
    with pytest.raises(EngineError, match=r"^a plan: .*; at least 9\d\.\d% must, so it is refused"):
        agreement.check("a plan")


@pytest.mark.parametrize("seed", range(3))
def test_a_difference_is_that_of_numpy(seed):
    random = np.random.default_rng(seed)
    reference, found = random.integers(1, 20, (2, 3, 50, 40), dtype=np.uint8)
    difference = difference_of(reference, found)
    assert difference.pixels == 6000
    assert difference.share == pytest.approx((reference == found).mean())
    wrong = reference != found
    assert difference.lean == (found.astype(int) - reference < 0)[wrong].mean()
    halves = [difference_of(reference[:, :25], found[:, :25])]
    halves.append(difference_of(reference[:, 25:], found[:, 25:]))
    assert halves[0] + halves[1] == difference


def test_nothing_that_differs_has_no_lean():
    same = difference_of(labels(1, 2), labels(1, 2))
    assert (same.share, same.lean, same.leans, same.fault) == (1, None, False, "")
    assert LabelDifference().share == 1


@pytest.mark.parametrize(
    ("pixels", "different", "lower", "leans"),
    [
        (10**5, 1000, 1000, False),
        (10**5, 1001, 1001, True),
        (10**5, 2000, 800, False),
        (10**5, 2000, 799, True),
        (10**5, 2000, 1200, False),
        (10**5, 2000, 1201, True),
        (2 * 10**6, 2000, 1500, False),  # a thousand more one way than the other, of two million
        (2 * 10**6, 2000, 1501, True),
        (2 * 10**6, 2000, 499, True),
    ],
)
def test_a_lean_counts_where_enough_labels_move_one_way(pixels, different, lower, leans):
    difference = LabelDifference(pixels=pixels, different=different, lower=lower)
    assert difference.leans is leans
    assert bool(difference.fault) is leans


@pytest.mark.parametrize("origin", ["images", "noise"])
def test_labels_that_lean_are_refused_on_images(spec, origin):
    reference, found = np.full(300_000, 3, np.uint8), np.full(300_000, 3, np.uint8)
    found[:1001] = 1
    agreement = compare(spec, origin, [(reference, found)])
    if origin == "noise":
        agreement.check("a plan")
        return
    with pytest.raises(
        EngineError, match=r"^a plan: 100% of the 1,001 labels .* lean, so it is refused: export"
    ):
        agreement.check("a plan")


def test_the_twin_is_fp32_throughout_and_answers_alike(fp16_path):
    twin = onnx.load_from_string(in_fp32(fp16_path))
    onnx.checker.check_model(twin, full_check=True)
    assert onnx.TensorProto.FLOAT16 not in {t.data_type for t in twin.graph.initializer}
    tile = noise_tiles(read_model_spec(fp16_path))[0][None]
    (half,) = open_session(fp16_path).run(None, {"image": tile})
    (full,) = open_session(twin.SerializeToString()).run(None, {"image": tile})
    assert (half == full).all()


def test_noise_is_the_same_every_time(spec):
    one, two = noise_tiles(spec), noise_tiles(spec)
    assert np.array_equal(one, two)
    assert one[0].shape == (2, 32, 32)
