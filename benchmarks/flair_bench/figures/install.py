"""Sizes of fresh environments."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """A fresh environment that the project was installed into."""

    mib: float
    """On disk, all packages."""
    cuda_mib: float
    """Of that, libraries for NVIDIA GPUs that PyTorch brings along."""
    install_s: float
    """From an empty folder to the end of pip, downloads too: they depend on the network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstallFigures:
    """What an installation takes."""

    environments: Mapping[str, Environment]
    """By the extras that were installed: `cpu,export`."""
    demo_s: float
    """The demo, in the last of the environments."""
