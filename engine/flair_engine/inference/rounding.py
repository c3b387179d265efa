"""Kernels rounded to bf16, their errors carried on so that the sum of each stays.

Rounded one by one, the errors of a kernel's weights add up to an offset wherever a feature map is
smooth, and classes that nearly tie then move one way over whole fields. Carried on to the next
weight of the kernel, as in error diffusion of pictures (Floyd and Steinberg, 1976), they cancel.
"""

from __future__ import annotations

import numpy as np


def carried(kernels: np.ndarray) -> np.ndarray:
    """Round FP32 [out, in, h, w] to bf16, carrying errors on within each [h, w]; return FP32."""
    values = kernels.reshape(*kernels.shape[:2], -1)
    result, error = np.empty_like(values), np.zeros(values.shape[:2], np.float32)
    for place in range(values.shape[2]):
        wanted = values[:, :, place] + error
        result[:, :, place] = found = nearest_bf16(wanted)
        error = wanted - found
    return result.reshape(kernels.shape)


def nearest_bf16(values: np.ndarray) -> np.ndarray:
    """Round finite FP32 to the nearest number that bf16 holds, ties to even, as FP32."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    below_half = 0x7FFF + ((bits >> 16) & 1)
    found: np.ndarray = ((bits + below_half) & np.uint32(0xFFFF0000)).view(np.float32)
    return found
