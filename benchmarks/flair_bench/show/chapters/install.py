"""The chapter on installing: what environments take, and the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_bench.show.tables import Chapter, Table

if TYPE_CHECKING:
    from flair_bench.figures import InstallFigures


def install_chapter(figures: InstallFigures) -> Chapter:
    """Return the sizes of environments, and how long they and the demo took."""
    return Chapter(
        title="Installing",
        lead=(
            "Fresh environments, nothing in pip's cache. How long the download takes depends on "
            "the network."
        ),
        tables=(
            Table(
                title="A fresh environment",
                columns=("install", "MiB", "of that for NVIDIA GPUs", "seconds"),
                rows=tuple(
                    (
                        f".[{extras}]",
                        f"{found.mib:,.0f}",
                        f"{found.cuda_mib:,.0f}",
                        f"{found.install_s:.0f}",
                    )
                    for extras, found in figures.environments.items()
                ),
            ),
        ),
        notes=(f"the demo then takes {figures.demo_s:.0f} s",),
    )
