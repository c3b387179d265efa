"""Models for the engine's tests, made from the golden one."""

import dataclasses
import sys
from pathlib import Path

import onnx
import pytest

sys.path.append(str(Path(__file__).parents[1] / "data"))

from make_tiny import SPEC, box_model


@pytest.fixture
def band_model(tmp_path):
    """Write the box-filter model for named bands; return its path.

    Class 1 wins where the 5x5 sum of the first band is at least that of the last, else class 3.
    """

    def make(*bands, mean=None, **changes):
        normalization = dataclasses.replace(
            SPEC.normalization,
            mean=tuple(mean or [100.0] * len(bands)),
            std=(50.0,) * len(bands),
        )
        spec = dataclasses.replace(
            SPEC, name="box", bands=bands, normalization=normalization, **changes
        )
        path = tmp_path / f"box{len(bands)}.onnx"
        onnx.save(box_model(spec), path)
        return path

    return make
