"""Fixtures shared by every part: small rasters, the golden model, and where real data may lie."""

from __future__ import annotations

import signal
import uuid

import numpy as np
import pytest
from doubles.paths import SHARED, TINY
from doubles.rasters import write_tiff
from hypothesis import HealthCheck, settings

# The one profile. Machines that share their cores make deadlines lie; fixtures that examples share
# are only read.
settings.register_profile(
    "flair", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("flair")


@pytest.fixture(autouse=True)
def signals_as_before():
    """Give signals back the handlers that commands replace."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for name, handler in handlers.items():
        signal.signal(getattr(signal, name), handler)
    if hasattr(signal, "SIGCHLD"):
        # PyTorch's DataLoader leaves a handler that hears of every process that ends from then on,
        # whatever fixture it ran in: workers of pytest have ended at such a signal.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path_factory, monkeypatch):
    """Keep what runs keep for the next ones in a folder of this test, made once it is needed."""
    folder = tmp_path_factory.getbasetemp() / f"kept-{uuid.uuid4().hex}"
    monkeypatch.setattr("flair_engine.inference.kept.default_folder", lambda: folder)
    return folder


@pytest.fixture
def tiny_path():
    """The golden two-band model of doubles/tiny_model.py."""
    return TINY


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real data not at {SHARED}")
    return SHARED


@pytest.fixture
def make_raster(tmp_path):
    """Write a seeded GeoTIFF and return (path, image_bhw)."""

    def make(name="in.tif", *, height=70, width=53, bands=2, dtype="uint8", **profile):
        seed = height * 7919 + width
        image = np.random.default_rng(seed).integers(0, 256, (bands, height, width)).astype(dtype)
        return write_tiff(tmp_path / name, image, **profile), image

    return make


def box_labels(image_bhw):
    """What tests/data/tiny.onnx answers, by a direct computation over the whole array."""
    _, height, width = image_bhw.shape
    padded = np.pad(image_bhw.astype(int), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    sums = sum(padded[:, i : i + height, j : j + width] for i in range(5) for j in range(5))
    return np.where(sums[0] >= sums[1], 1, 3).astype(np.uint8)


@pytest.fixture
def expected_labels():
    """The oracle of the golden model."""
    return box_labels


def pytest_terminal_summary(terminalreporter):
    """Print the plans that the real TensorRT for RTX built, with their sizes and seconds."""
    plans = [
        value
        for report in terminalreporter.stats.get("passed", ())
        if report.when == "call"
        for key, value in report.user_properties
        if key == "plan"
    ]
    if plans:
        terminalreporter.section("plans of TensorRT for RTX")
        for name, mb, seconds in sorted(plans):
            terminalreporter.line(f"{name:64} {mb:6.1f} MB {seconds:5.1f} s")
