"""Kernels in fewer bits: PyTorch's rounding, and sums that stay."""

import numpy as np
import pytest

from flair_engine.inference.rounding import carried, nearest_bf16


def test_rounding_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    values = (random.standard_normal(10_000) * 10.0 ** random.integers(-30, 30, 10_000)).astype(
        "f4"
    )
    values[:3] = 0, 1 + 2**-8, 1 + 3 * 2**-8  # zero, and two halves: to even
    expected = torch.from_numpy(values).to(torch.bfloat16).float().numpy()
    assert np.array_equal(nearest_bf16(values), expected)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (2, 5, 1, 1), (3, 2, 7, 7)])
def test_the_sum_of_each_kernel_stays(shape):
    kernels = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    rounded = carried(kernels)
    assert np.array_equal(nearest_bf16(rounded), rounded)
    step = 2.0 ** (np.floor(np.log2(np.abs(rounded).max((2, 3)))) - 7)
    assert (np.abs((rounded - kernels).sum((2, 3), dtype=np.float64)) <= step / 2 + 1e-6).all()
    assert (np.abs(rounded - kernels) <= step[:, :, None, None] + 1e-6).all()
    if shape[2:] == (1, 1):
        assert np.array_equal(rounded, nearest_bf16(kernels))


def test_a_sum_of_carried_weights_is_nearer_than_one_of_rounded_weights():
    kernels = np.random.default_rng(3).standard_normal((50, 40, 3, 3)).astype(np.float32)
    sums = kernels.sum((2, 3), dtype=np.float64)
    off = [
        np.abs(rounded.sum((2, 3), dtype=np.float64) - sums).mean()
        for rounded in (carried(kernels), nearest_bf16(kernels))
    ]
    assert off[0] < off[1] / 2
