"""STAC Item of an exported model: what it reads, what it answers, whose weights it has.

Machine Learning Model extension, github.com/stac-extensions/mlm, version 1.5.2. The Item stands
beside the model as NAME.stac.json and says nothing that the file or the card does not.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

from flair_engine import bounded_json
from flair_engine.durable import write_whole
from flair_engine.errors import OutputError, WriteError
from flair_engine.manifest import (
    COUNTS_PER_METRE,
    ELEVATION,
    INPUT_NAME,
    expected_tensors,
    read_model_spec,
)
from flair_engine.overwriting import refuse_inputs
from flair_export.cards import FRANCE, LICENCE, LICENCE_URL, PRODUCER_URL, card_of
from flair_export.errors import ExporterMissingError

if TYPE_CHECKING:
    from pathlib import Path

    from flair_engine.manifest import LandCoverClass, ModelSpec
    from flair_export.cards import Card

MLM = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
FILE_EXTENSION = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
TASK = "semantic-segmentation"
FREE = -1
"""Length of an axis that is free."""


def item_path(model: Path) -> Path:
    """Return where the Item of a model goes: NAME.stac.json beside NAME.onnx."""
    return model.with_suffix(".stac.json")


def check_item(model: Path, *, overwrite: bool) -> None:
    """Raise a FlairError unless the Item of a model can be written, to be asked before long work.

    ExporterMissingError without pystac, OutputError where something stands at its name: one of
    another kind, or an Item of a model that is not to be overwritten.
    """
    _import_pystac()
    path = item_path(model)
    refuse_inputs([path], [str(model)])
    if not os.path.lexists(path):
        return
    if not is_item(path):
        raise OutputError(
            f"{path}: exists already and is no STAC Item of a model",
            "give the model a name beside which nothing stands",
        )
    if not overwrite:
        raise OutputError(f"{path}: exists", "give another name, or --overwrite to replace it")


def write_item(model: Path) -> Path:
    """Write the Item of an exported model beside it; return its path.

    Raises ManifestError for what is no model of ours, ExporterMissingError without pystac,
    WriteError where the disk refuses.
    """
    path = item_path(model)
    content = json.dumps(model_item(model), indent=2, ensure_ascii=False) + "\n"
    try:
        write_whole(path, content.encode())
    except OSError as error:
        raise WriteError(
            f"{path}: the model is complete, its Item cannot be written ({error.strerror})",
            f"mend that, then run flair-export {model} --stac",
        ) from error
    return path


def model_item(model: Path) -> dict[str, Any]:
    """Return the Item of an exported model as JSON values.

    The time is when the file was written, or that of SOURCE_DATE_EPOCH: a model has none of its
    own. Its place is where its training images were taken, known of published models alone; of
    others it is null, since nothing says where they hold.
    """
    pystac = _import_pystac()
    spec = read_model_spec(model)
    card = card_of(spec)
    item = pystac.Item(
        id=f"{spec.name}-{spec.precision}",
        geometry=_box(FRANCE) if card else None,
        bbox=list(FRANCE) if card else None,
        datetime=_written(model),
        properties=_properties(spec, card),
        stac_extensions=[MLM, FILE_EXTENSION],
    )
    item.add_asset("model", pystac.Asset.from_dict(_asset(model, spec)))
    for link in _links(card):
        item.add_link(pystac.Link.from_dict(link))
    found: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return found


def _properties(spec: ModelSpec, card: Card | None) -> dict[str, Any]:
    licence = {
        "license": LICENCE,
        "providers": [{"name": "IGN", "roles": ["producer"], "url": PRODUCER_URL}],
    }
    return {
        "title": f"{spec.name}, {spec.precision}",
        "description": f"{spec.architecture} from {', '.join(spec.bands)} at {spec.gsd_m:g} m "
        f"to {len(spec.active_classes)} classes of land cover",
        "gsd": spec.gsd_m,
        # Here the extension looks for the bands that an input names; STAC wants them in an asset.
        "bands": [_band(name) for name in spec.bands],
        **(licence if card else {}),
        "mlm:name": _mlm_name(spec.name),
        "mlm:architecture": spec.architecture,
        "mlm:tasks": [TASK],
        "mlm:framework": "ONNX",
        "mlm:input": [_input(spec)],
        "mlm:output": [_output(spec, name) for name in spec.outputs],
        "mlm:hyperparameters": _hyperparameters(spec),
    }


def _hyperparameters(spec: ModelSpec) -> dict[str, Any]:
    """Return what a run has to keep to, and what tells the file from others."""
    agreement = {"agreement_fp32": spec.agreement_fp32} if spec.agreement_fp32 is not None else {}
    return {
        "tile_px": spec.tile_px,
        "margin_px": spec.margin_px,
        "core_px": spec.core_px,
        "precision": spec.precision,
        **agreement,
        "normalization_mean": list(spec.normalization.mean),
        "normalization_std": list(spec.normalization.std),
        "weights_sha256": spec.weights_sha256,
        "exporter": spec.exporter,
    }


def _band(name: str) -> dict[str, str]:
    said = f"height above ground, {COUNTS_PER_METRE} counts per metre, saturated at 255"
    return {"name": name, "description": said if name == ELEVATION else f"{name}, raw 0 to 255"}


def _input(spec: ModelSpec) -> dict[str, Any]:
    return {
        "name": INPUT_NAME,
        "description": "raw values: the graph normalises them",
        "bands": list(spec.bands),
        "input": {
            "shape": [FREE, *expected_tensors(spec)[INPUT_NAME]],
            "dim_order": ["batch", "bands", "height", "width"],
            "data_type": "uint8",
        },
    }


SAID = {
    "labels": "the value of a class",
    "confidence": "255 times the largest softmax over the classes",
    "probabilities": "255 times the softmax, channel v - 1 of class v",
}
"""What each output is."""


def _output(spec: ModelSpec, name: str) -> dict[str, Any]:
    shape = expected_tensors(spec)[name]
    axes = ["class", "height", "width"][-len(shape) :]
    classes = [] if name == "confidence" else [_class(entry) for entry in spec.active_classes]
    return {
        "name": name,
        "description": SAID[name],
        "tasks": [TASK],
        "result": {
            "shape": [FREE, *shape],
            "dim_order": ["batch", *axes],
            "data_type": "uint8",
        },
        "classification:classes": classes,
    }


def _class(entry: LandCoverClass) -> dict[str, Any]:
    return {
        "value": entry.value,
        "name": re.sub(r"[^0-9A-Za-z_-]+", "_", entry.name),
        "description": entry.name,
        "color_hint": entry.color.removeprefix("#").upper(),
    }


def _asset(model: Path, spec: ModelSpec) -> dict[str, Any]:
    from flair_engine.mapping.stac import SHA256_MULTIHASH

    content = model.read_bytes()
    return {
        "href": f"./{model.name}",
        "type": "application/octet-stream; framework=onnx",
        "title": "ONNX file for flair-run",
        "roles": ["mlm:model"],
        "mlm:artifact_type": "onnx",
        "bands": [{"name": name} for name in spec.bands],
        "file:size": len(content),
        "file:checksum": SHA256_MULTIHASH + hashlib.sha256(content).hexdigest(),
    }


def _links(card: Card | None) -> list[dict[str, str]]:
    if card is None:
        return []
    return [
        {
            "rel": "derived_from",
            "href": f"https://huggingface.co/{card.hub_id}",
            "type": "text/html",
            "title": "the weights and their card",
        },
        {"rel": "license", "href": LICENCE_URL, "type": "text/html"},
    ]


def _mlm_name(name: str) -> str:
    """Return a name as the extension spells them: letters, digits, `_`, `.`, `-` and blanks."""
    spelt = re.sub(r"[^a-zA-Z0-9_.\-\s]", "_", name)
    fits = re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", spelt)
    return spelt if fits else f"model {spelt.strip('_.- ')} FLAIR"


def _box(edges: tuple[float, float, float, float]) -> dict[str, Any]:
    west, south, east, north = edges
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _written(model: Path) -> dt.datetime:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(epoch) if epoch.isdecimal() else int(model.stat().st_mtime)
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)


def is_item(path: Path) -> bool:
    """Return whether a STAC Item of a model stands at a path."""
    from flair_engine.mapping.standing import ITEM_BYTES

    try:
        with path.open("rb") as file:
            value = bounded_json.parse(file.read(ITEM_BYTES), largest_bytes=ITEM_BYTES)
    except (OSError, ValueError):
        return False
    extensions = value.get("stac_extensions") if isinstance(value, dict) else None
    return isinstance(extensions, list) and MLM in extensions


def _import_pystac() -> Any:
    """Import pystac. Raises ExporterMissingError where it is absent."""
    try:
        import pystac
    except ImportError as error:
        raise ExporterMissingError(
            "writing a STAC Item needs pystac", "run pip install 'flair-engine[stac]'"
        ) from error
    return pystac
