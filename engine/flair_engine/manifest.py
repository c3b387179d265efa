"""The contract between exporter and engine: one JSON value inside the ONNX file.

The value stands under the metadata key `flair`. Reading is strict: no field has a default, an
unknown schema is refused, and every fault is named in one message.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from flair_engine.bounded_json import parse
from flair_engine.errors import GeometryError, ManifestError
from flair_engine.grid import Grid, check_geometry
from flair_engine.model_file import check_model, load_graph
from flair_engine.texts import LONGEST, is_name, shown

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

MANIFEST_SCHEMA = 2
"""Number of the manifest's fields and their meaning; CONTRIBUTING.md says when it goes up."""

METADATA_KEY = "flair"
DEEPNESS_KEY = "flair_deepness"
"""Where a file for the Deepness plugin of QGIS keeps the manifest of what it was made of."""
MANIFEST_BYTES = 1 << 20
"""Of a manifest: one with 255 classes has a tenth."""
MOST_BANDS = 256
GSD_LIMITS_M = (0.001, 1000.0)
UNKNOWN_SAID = 5
"""Unknown fields that a message names."""
INPUT_NAME = "image"
OUTPUT_NAMES = ("labels", "confidence", "probabilities")
PRECISIONS = ("fp32", "fp16", "int8")

ELEVATION = "elevation"
"""Name of the band that holds height above ground."""

COUNTS_PER_METRE = 5
"""E = clip(5 * max(DSM - DTM, 0), 0, 255): how the training data encode height (model cards: one
count is 0.2 m); saturated at 51 m."""


class Sized(Protocol):
    """What has rows and columns."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LandCoverClass:
    """One class of the nomenclature."""

    value: int
    """Value written to the map, 1..255; 0 is nodata."""
    name: str
    color: str
    """`#rrggbb`."""
    active: bool
    """False for a class the network was not trained on; it is never predicted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalization:
    """Per-band statistics of raw 0..255 values, applied inside the graph as (x - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Everything the engine knows of a model. Field by field the manifest's JSON."""

    schema: int
    name: str
    architecture: str
    bands: tuple[str, ...]
    gsd_m: float
    """Ground sampling distance the network was trained at, metres per pixel."""
    tile_px: int
    """Edge of the square the network reads."""
    margin_px: int
    """Context on each side of a tile whose labels are not kept."""
    precision: str
    agreement_fp32: float | None
    """Share of labels equal to the FP32 file's on the images INT8 was made with; None otherwise."""
    classes: tuple[LandCoverClass, ...]
    normalization: Normalization
    outputs: tuple[str, ...]
    weights_sha256: str
    exporter: str

    @property
    def core_px(self) -> int:
        """Edge of the square of labels one tile yields: tile - 2 * margin."""
        return self.tile_px - 2 * self.margin_px

    @property
    def active_classes(self) -> tuple[LandCoverClass, ...]:
        """The classes that can be predicted, by ascending value."""
        return tuple(entry for entry in self.classes if entry.active)

    def to_json(self) -> str:
        """Return the manifest as one JSON object with the fields in the order of this class."""
        return json.dumps(asdict(self))


def parse_manifest(text: str, origin: str) -> ModelSpec:
    """Build the ModelSpec of a manifest; `origin` names the file in messages.

    Raises ManifestError that lists every fault found.
    """
    try:
        value = parse(text, largest_bytes=MANIFEST_BYTES)
    except ValueError as error:
        raise ManifestError(
            f"{origin}: its manifest is not JSON to be read ({error})", "export it again"
        ) from error
    faults = _faults(value)
    if faults:
        raise ManifestError(f"{origin}: {'; '.join(faults)}", "export it again")
    normalization = value["normalization"]
    return ModelSpec(
        **{
            **value,
            "bands": tuple(value["bands"]),
            "classes": tuple(LandCoverClass(**entry) for entry in value["classes"]),
            "normalization": Normalization(
                mean=tuple(normalization["mean"]), std=tuple(normalization["std"])
            ),
            "outputs": tuple(value["outputs"]),
        }
    )


def attach_manifest(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Write `spec` into the metadata of `model`, replacing one that is there."""
    others = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_json()


def read_model_spec(path: Path | str) -> ModelSpec:
    """Read the manifest of an ONNX file and check that its graph keeps what it promises.

    Raises ManifestError where the file is absent, is no ONNX, has no manifest, has a faulty one,
    has inputs and outputs other than those it names, weights in another file or operators that no
    model of flair-export has.
    """
    return spec_of(load_graph(path), str(path))


def spec_of(model: onnx.ModelProto, origin: str) -> ModelSpec:
    """Return the checked ModelSpec of a loaded ONNX model; `origin` names it in messages.

    Raises ManifestError.
    """
    said = {entry.key: entry.value for entry in model.metadata_props}
    text = said.get(METADATA_KEY)
    if text is None and DEEPNESS_KEY in said:
        raise ManifestError(
            f"{origin}: is a file for the Deepness plugin of QGIS: floats in, probabilities out",
            "give the one that flair-export writes without --flavour deepness",
        )
    if text is None:
        raise ManifestError(
            f"{origin}: has no '{METADATA_KEY}' manifest, so its bands, classes and geometry are "
            "unknown",
            "export the checkpoint with flair-export",
        )
    spec = parse_manifest(text, origin)
    check_model(model, origin)
    tensors = {t.name: _declared(t) for t in (*model.graph.input, *model.graph.output)}
    expected = expected_tensors(spec)
    faults = [
        f"{name} is {_show(tensors.get(name))} but the manifest says {_show(shape)}"
        for name, shape in expected.items()
        if tensors.get(name) != shape
    ]
    if extra := sorted(tensors.keys() - expected.keys()):
        faults.append(f"{shown(', '.join(extra[:UNKNOWN_SAID]))} not named in the manifest")
    if faults:
        raise ManifestError(f"{origin}: {'; '.join(faults)}", "export it again")
    return spec


def expected_tensors(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Return the uint8 inputs and outputs by name with their shapes past the batch axis."""
    core = (spec.core_px, spec.core_px)
    channels = max(entry.value for entry in spec.classes)
    shapes = {"labels": core, "confidence": core, "probabilities": (channels, *core)}
    return {
        INPUT_NAME: (len(spec.bands), spec.tile_px, spec.tile_px),
        **{name: shapes[name] for name in spec.outputs},
    }


def output_bands(spec: ModelSpec) -> dict[str, int]:
    """Return the number of bands of each output of the model."""
    shapes = expected_tensors(spec)
    return {name: shapes[name][0] if len(shapes[name]) == 3 else 1 for name in spec.outputs}


def label_values(spec: ModelSpec) -> frozenset[int]:
    """Return the labels that the model can answer: the values of its active classes."""
    return frozenset(entry.value for entry in spec.active_classes)


def tile_grid(spec: ModelSpec, raster: Sized) -> Grid:
    """Return the model's tiles on a raster."""
    return Grid(
        height=raster.height,
        width=raster.width,
        tile_px=spec.tile_px,
        margin_px=spec.margin_px,
    )


def _declared(tensor: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """Shape past the batch axis of a uint8 tensor; None for another type or unknown shape."""
    import onnx

    kind = tensor.type.tensor_type
    if kind.elem_type != onnx.TensorProto.UINT8 or len(kind.shape.dim) < 1:
        return None
    return tuple(dim.dim_value for dim in kind.shape.dim[1:])


def _show(shape: tuple[int, ...] | None) -> str:
    return "absent or not uint8" if shape is None else f"uint8 {['N', *shape]}".replace("'", "")


def _faults(value: Any) -> list[str]:
    """Return everything wrong with a decoded manifest, in the words of the message."""
    if not isinstance(value, dict):
        return [f"manifest is a JSON {type(value).__name__}, not an object"]
    if "schema" not in value:
        return [f"schema is missing, this engine reads {MANIFEST_SCHEMA}"]
    if not _is_int(value["schema"]) or value["schema"] != MANIFEST_SCHEMA:
        return [f"schema is {_quoted(value['schema'])}, this engine reads {MANIFEST_SCHEMA}"]
    faults = [f"{key} is missing" for key in ModelSpec.__dataclass_fields__ if key not in value]
    unknown = [key for key in value if key not in ModelSpec.__dataclass_fields__]
    faults += [f"{shown(key[:40])} is unknown" for key in unknown[:UNKNOWN_SAID]]
    faults += [
        f"{key} is {_quoted(value[key])}, expected {expected}"
        for key, (rule, expected) in _RULES.items()
        if key in value and not rule(value[key])
    ]
    if faults:
        return faults
    statistics, bands = value["normalization"], len(value["bands"])
    if not len(statistics["mean"]) == len(statistics["std"]) == bands:
        faults.append(f"normalization does not have one mean and std for each of {bands} bands")
    values = [entry["value"] for entry in value["classes"]]
    if values != sorted(set(values)):
        faults.append("class values are not in ascending order without repetition")
    try:
        check_geometry(value["tile_px"], value["margin_px"])
    except GeometryError as error:
        faults.append(str(error))
    return faults


def _quoted(value: Any) -> str:
    return json.dumps(value)[:80]  # with nothing but ASCII


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_class(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == LandCoverClass.__dataclass_fields__.keys()
        and _is_int(value["value"])
        and 1 <= value["value"] <= 255
        and is_name(value["name"])
        and isinstance(value["color"], str)
        and re.fullmatch(r"#[0-9a-f]{6}", value["color"]) is not None
        and isinstance(value["active"], bool)
    )


def _is_normalization(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"mean", "std"}
        and all(isinstance(value[key], list) and value[key] for key in ("mean", "std"))
        and all(_is_number(number) for number in value["mean"])
        and all(_is_number(number) and number > 0 for number in value["std"])
    )


def _is_list_of(rule: Any) -> Any:
    return lambda value: isinstance(value, list) and bool(value) and all(map(rule, value))


TEXT = f"a text of {LONGEST} characters at most, none of them a control character"
_RULES: dict[str, tuple[Any, str]] = {
    "name": (is_name, TEXT),
    "architecture": (is_name, TEXT),
    "bands": (
        lambda v: _is_list_of(is_name)(v) and len(v) <= MOST_BANDS,
        f"a list of band names, {MOST_BANDS} at most, each {TEXT}",
    ),
    "gsd_m": (
        lambda v: _is_number(v) and GSD_LIMITS_M[0] <= v <= GSD_LIMITS_M[1],
        "metres per pixel, {:g} to {:g}".format(*GSD_LIMITS_M),
    ),
    "tile_px": (_is_int, "a whole number"),
    "margin_px": (_is_int, "a whole number"),
    "precision": (lambda v: v in PRECISIONS, " or ".join(PRECISIONS)),
    "agreement_fp32": (
        lambda v: v is None or (_is_number(v) and 0 <= v <= 1),
        "a share from 0 to 1, or null",
    ),
    "classes": (
        lambda v: _is_list_of(_is_class)(v) and any(entry["active"] for entry in v),
        f"classes {{value 1..255, name, color #rrggbb, active}}, one active at least, names {TEXT}",
    ),
    "normalization": (_is_normalization, "{mean, std} lists of numbers, std above 0"),
    "outputs": (
        lambda v: (
            isinstance(v, list)
            and v[:1] == ["labels"]
            and v == [name for name in OUTPUT_NAMES if name in v]
        ),
        "labels, then optionally confidence and probabilities",
    ),
    "weights_sha256": (
        lambda v: isinstance(v, str) and re.fullmatch(r"[0-9a-f]{64}", v) is not None,
        "64 hexadecimal digits",
    ),
    "exporter": (is_name, TEXT),
}
