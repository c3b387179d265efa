"""Places that tests read from, and what lies in a folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
TINY = ROOT / "tests" / "data" / "tiny.onnx"
"""The golden two-band model of tiny_model.py."""
COMMITTED = [
    path
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    if path.name != "local.json"  # of this machine, not committed
]
"""Result files of the measured machines."""
SHARED = ROOT.parent / "shared" / "data"
"""Real data; tests that need it skip where it is absent."""
STANDIN = SHARED / "standin" / "standin_rvbie_15cl_resnet34-unet_weights.pth"
"""A trained stand-in checkpoint, beside the real data."""


def listing(folder: Path) -> list[str]:
    """Return the names in a folder, in order."""
    return sorted(entry.name for entry in folder.iterdir())
