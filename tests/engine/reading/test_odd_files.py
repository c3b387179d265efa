"""Truncated, corrupt, rotated, masked, mis-tagged and hostile rasters, one process each.

Each must end in a map (exit 0) or in one line and exit 1 or 2, within a minute and 4 GB. Files of
one, three and four bands are read by models of as many; of the others the first band is.
"""

import resource
import subprocess
import sys

import pytest
import rasterio
from doubles.paths import SHARED

ODD = SHARED / "odd"

pytestmark = pytest.mark.slow
FILES = sorted(p for p in ODD.rglob("*") if p.is_file() and p.suffix != ".md")
CRASHES_GDAL: set[str] = set()
"""Files on which GDAL itself ends the process."""
MEMORY_BYTES = 4 * 2**30


def band_count(path):
    """Return how many bands the file says it has, asked in a process that may die."""
    probe = "import rasterio, sys; print(rasterio.open(sys.argv[1]).count)"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", probe, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return int(result.stdout) if result.returncode == 0 else 1


@pytest.mark.skipif(not FILES, reason=f"hostile rasters not at {ODD}")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_map_or_one_line(path, band_model, tmp_path):
    count = band_count(path)
    bands = count if count in (1, 3, 4) else 1
    model = band_model(*(f"b{n}" for n in range(bands)))
    output = tmp_path / "map.tif"
    command = [sys.executable, "-m", "flair_engine", "-m", model, path, output]
    options = ["--gsd", "0.2", "--quiet", "--engine", "ort", "--threads", "1"]
    if bands != count:
        options += ["--bands", "1"]
    result = subprocess.run(
        [*map(str, command), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
    )
    if path.name in CRASHES_GDAL:
        assert result.returncode < 0
        return
    assert result.returncode in (0, 1, 2), result.stderr
    assert "Traceback" not in result.stderr
    assert output.exists() == (result.returncode == 0)
    if result.returncode == 0:
        with rasterio.open(output) as dataset:
            assert dataset.read(1).max() <= 3
    else:
        lines = [line for line in result.stderr.splitlines() if line.startswith("flair-run: ")]
        assert len(lines) == 1, result.stderr
