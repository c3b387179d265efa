"""Memory is measured over a file, in a box of a huge raster, and across wide ones."""

import numpy as np

from flair_bench.measure import memory


def test_peaks_are_of_processes_that_map_what_they_say(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SMALL_PX", 600)
    monkeypatch.setattr(memory, "HUGE_PX", 3000)
    monkeypatch.setattr(memory, "WIDE_PX", 64)
    monkeypatch.setattr(memory, "WIDTHS_PX", (700,))
    said = []
    image = np.random.default_rng(8).integers(0, 256, (3, 90, 70), dtype=np.uint8)
    peaks = memory.measure_memory(image, tmp_path, said.append)
    wide = "64 x 700 px"
    names = ["600 px file", "600 px box of 3000 px", wide]
    names += [f"{wide}, all outputs", f"{wide}, all outputs, COG"]
    assert list(peaks) == names
    assert said == [f"memory of {name}" for name in names]
    assert min(peaks.values()) > 10
