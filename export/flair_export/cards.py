"""Published FLAIR-INC models as data, found by name.

Source of names, bands, classes, statistics and scores: the model cards at huggingface.co/IGNF and
the FLAIR #1 documentation (nomenclature and colours). Every network has 19 output channels;
channel v - 1 is class v. Classes outside `active` had weight 0 in training.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flair_engine.manifest import ELEVATION, LandCoverClass, Normalization
from flair_export.errors import CardError

if TYPE_CHECKING:
    from flair_engine.manifest import ModelSpec

ORGANISATION = "IGNF"
PRODUCER_URL = f"https://huggingface.co/{ORGANISATION}"
LICENCE = "etalab-2.0"
"""Of the published weights, as the cards' headers have it; an SPDX name."""
LICENCE_URL = "https://www.etalab.gouv.fr/licence-ouverte-open-licence/"
FRANCE = (-5.2, 41.3, 9.6, 51.1)
"""West, south, east and north, degrees: a box around mainland France and Corsica, where the
training images were taken."""
GSD_M = 0.2
"""Ground sampling distance of the training images, metres per pixel."""
OFFICIAL_TILE_PX = 512
OFFICIAL_MARGIN_PX = 128
"""Geometry of the official tool: tiles as in training, of which 256 px in the middle are kept."""
TILE_PX = 1024
MARGIN_PX = OFFICIAL_MARGIN_PX
"""Geometry of an export that is told none; docs/performance.md says why."""
CHANNELS = 19
"""Output channels of every network of the collection, also of the 12- and 15-class ones."""
BANDS = ("red", "green", "blue", "nir", ELEVATION)
"""Band order of the training images; a model of fewer bands takes the leading ones. Elevation is
surface minus terrain height, COUNTS_PER_METRE of flair_engine.manifest."""
MEAN = (105.08, 110.87, 101.82, 106.38, 53.26)
STD = (52.17, 45.38, 44.00, 39.69, 79.30)
"""Statistics of raw 0..255 values in the order of BANDS, from the card of the five-band model."""
NOMENCLATURE = (
    ("building", "#db0e9a"),
    ("pervious surface", "#938e7b"),
    ("impervious surface", "#f80c00"),
    ("bare soil", "#a97101"),
    ("water", "#1553ae"),
    ("coniferous", "#194a26"),
    ("deciduous", "#46e483"),
    ("brushwood", "#f3a60d"),
    ("vineyard", "#660082"),
    ("herbaceous vegetation", "#55ff00"),
    ("agricultural land", "#fff30d"),
    ("plowed land", "#e4df7c"),
    ("swimming pool", "#3de6eb"),
    ("snow", "#ffffff"),
    ("clear cut", "#8ab3a0"),
    ("mixed", "#6b714f"),
    ("ligneous", "#c5dc42"),
    ("greenhouse", "#9999ff"),
    ("other", "#000000"),
)
"""Name and colour of classes 1..19."""
ACTIVE_12 = tuple(range(1, 13))
ACTIVE_15 = (*range(1, 15), 18)


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One published model."""

    name: str
    """Name on the Hub, without the organisation."""
    aliases: tuple[str, ...] = ()
    architecture: str
    """`unet`, `deeplabv3` or `fpn`, as segmentation-models-pytorch names them."""
    encoder: str
    """`resnet34` or `mit_b5`."""
    band_count: int
    active: tuple[int, ...]
    """Class values the network was trained on, ascending."""
    statistics_published: bool = True
    """False where mean and std are taken by analogy with the five-band model."""
    oa_percent: float | None = None
    """Published overall accuracy on the FLAIR test set; None where none is known."""
    miou_percent: float | None = None
    """Published mean IoU over the active classes that occur in the test set (snow does not)."""

    @property
    def hub_id(self) -> str:
        """Repository of the weights on the Hugging Face Hub."""
        return f"{ORGANISATION}/{self.name}"

    @property
    def short_name(self) -> str:
        """Name without the `FLAIR-INC_` every model shares."""
        return self.name.removeprefix("FLAIR-INC_")

    @property
    def network(self) -> str:
        """Architecture and encoder in one word, as manifests name them."""
        return f"{self.architecture}-{self.encoder}"

    @property
    def bands(self) -> tuple[str, ...]:
        """Band names in input order."""
        return BANDS[: self.band_count]

    @property
    def normalization(self) -> Normalization:
        """Statistics of the bands, raw 0..255 values."""
        return Normalization(mean=MEAN[: self.band_count], std=STD[: self.band_count])

    @property
    def classes(self) -> tuple[LandCoverClass, ...]:
        """The whole nomenclature, with what this model can predict marked active."""
        return tuple(
            LandCoverClass(value=value, name=name, color=color, active=value in self.active)
            for value, (name, color) in enumerate(NOMENCLATURE, start=1)
        )


CARDS = (
    Card(
        name="FLAIR-INC_rgbie_15cl_resnet34-unet",
        # The early card of this model writes RVB (rouge, vert, bleu) and both orders.
        aliases=(
            "FLAIR-INC_RVBIE_resnet34_unet_15cl_norm",
            "FLAIR-INC_RVBIE_unetresnet34_15cl_norm",
        ),
        architecture="unet",
        encoder="resnet34",
        band_count=5,
        active=ACTIVE_15,
        oa_percent=76.371,
        miou_percent=58.625,
    ),
    Card(
        name="FLAIR-INC_rgbi_15cl_resnet34-unet",
        architecture="unet",
        encoder="resnet34",
        band_count=4,
        active=ACTIVE_15,
        statistics_published=False,
    ),
    Card(
        name="FLAIR-INC_rgb_15cl_resnet34-unet",
        architecture="unet",
        encoder="resnet34",
        band_count=3,
        active=ACTIVE_15,
        oa_percent=75.482,
        miou_percent=59.013,
    ),
    Card(
        name="FLAIR-INC_rgb_15cl_resnet34-deeplabv3",
        architecture="deeplabv3",
        encoder="resnet34",
        band_count=3,
        active=ACTIVE_15,
    ),
    Card(
        name="FLAIR-INC_rgb_15cl_resnet34-fpn",
        architecture="fpn",
        encoder="resnet34",
        band_count=3,
        active=ACTIVE_15,
        oa_percent=74.712,
        miou_percent=59.284,
    ),
    Card(
        name="FLAIR-INC_rgb_15cl_mitb5-unet",
        architecture="unet",
        encoder="mit_b5",
        band_count=3,
        active=ACTIVE_15,
    ),
    Card(
        name="FLAIR-INC_rgbie_12cl_resnet34-unet",
        architecture="unet",
        encoder="resnet34",
        band_count=5,
        active=ACTIVE_12,
        oa_percent=76.509,
        miou_percent=62.716,
    ),
    Card(
        name="FLAIR-INC_rgb_12cl_resnet34-unet",
        architecture="unet",
        encoder="resnet34",
        band_count=3,
        active=ACTIVE_12,
    ),
)


EXPORT_MIB = 1700
"""Memory of an export that no tile changes: PyTorch, the weights, their copies in graphs."""
EXPORT_TILE_BYTES = {"deeplabv3": 1100}
"""The same, by architecture, for each pixel of a tile, where it is more than OTHER_TILE_BYTES."""
OTHER_TILE_BYTES = 800
"""Measured with the U-Net: 2.4 GiB at 1024 px, 4.7 GiB at 2048 px."""
ATTENTION_BYTES = 1 / 1024
"""For each pixel of a tile squared, MiT alone: (T / 4)^2 by (T / 32)^2 FP32 numbers, two matrices
of two tiles. Computed from the architecture, not measured."""


def export_bytes(card: Card, tile_px: int) -> int:
    """Return about how much memory an export at a tile takes."""
    pixels = tile_px**2
    grown = EXPORT_TILE_BYTES.get(card.architecture, OTHER_TILE_BYTES) * pixels
    attention = ATTENTION_BYTES * pixels**2 if card.encoder == "mit_b5" else 0
    return int(EXPORT_MIB * 2**20 + grown + attention)


STANDIN_CARD = "rgbie_15cl_resnet34-unet"
"""The model whose place the stand-in weights take."""


def find_card(name: str) -> Card:
    """Return the card of a model by Hub id, alias or short form, in any case.

    Raises CardError that lists the known names, the closest first.
    """
    known = {_key(known): card for card in CARDS for known in (card.name, *card.aliases)}
    if card := known.get(_key(name)):
        return card
    closest = difflib.get_close_matches(_key(name), known, n=len(known), cutoff=0.0)
    names = dict.fromkeys(known[key].short_name for key in closest)
    raise CardError(f"model '{name}' is not known", f"choose from {', '.join(names)}")


def card_of(spec: ModelSpec) -> Card | None:
    """Return the card of the published weights that a model was made of, None of any others.

    They are known by their name; what is called like them has to have their shape too.
    """
    try:
        card = find_card(spec.name)
    except CardError:
        return None
    active = tuple(entry.value for entry in spec.active_classes)
    alike = (card.network, card.bands, card.active) == (spec.architecture, spec.bands, active)
    return card if alike else None


def _key(name: str) -> str:
    folded = name.strip().casefold().removeprefix(f"{ORGANISATION.casefold()}/")
    return folded.removeprefix("flair-inc_")
