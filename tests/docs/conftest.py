"""A scratch folder that holds small inputs under the names the documentation uses."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pyogrio
import pytest
import shapely
from doubles.maps import patchy, write_map
from doubles.rasters import LAMBERT_93, ORIGIN_M, write_tiff
from onnx import TensorProto, helper, numpy_helper
from rasterio.transform import from_origin

from flair_engine.manifest import MANIFEST_SCHEMA, ModelSpec, attach_manifest, expected_tensors
from flair_export.cards import CARDS, GSD_M
from flair_export.convert.fp16 import convert_to_fp16
from flair_export.convert.int8 import convert_to_int8

if TYPE_CHECKING:
    from pathlib import Path

TILE_PX, MARGIN_PX = 64, 16
WIDE = 64
"""Channels that make a convolution worth converting to INT8."""
CLASSES = 14
"""Classes 1 to 14, all of which a 15-class model predicts."""
EDGE_PX = 160
"""Rows and columns of the images: five cores."""
PATCH_PX = 20
COLOURS = 12
"""Colours that squares are drawn in: few enough that none is nearly a tie of two classes."""
SHIFT_M = {"west": 0.0, "east": EDGE_PX * GSD_M}


CHAIN = (
    ("pixels", "Cast", (), {"to": TensorProto.FLOAT}),
    ("centred", "Sub", ("mean",), {}),
    ("normalised", "Div", ("std",), {}),
    ("first", "Conv", ("kernel0",), {}),
    ("first_bent", "Relu", (), {}),
    ("second", "Conv", ("kernel1",), {}),
    ("second_bent", "Relu", (), {}),
    ("scores", "Conv", ("kernel2",), {}),
    ("logits", "Slice", ("starts", "ends", "axes"), {}),
    ("index", "ArgMax", (), {"axis": 1, "keepdims": 0}),
    ("number", "Cast", (), {"to": TensorProto.FLOAT}),
    ("value", "Add", ("one",), {}),
    ("labels", "Cast", (), {"to": TensorProto.UINT8}),
)
"""Nodes, each reading the one before and some constants: of the form that flair-export converts to
FP16 and to INT8."""


def five_band_spec() -> ModelSpec:
    """Return the manifest of a small model of red, green, blue, near infrared and height."""
    card = CARDS[0]
    return ModelSpec(
        schema=MANIFEST_SCHEMA,
        name="small",
        architecture=card.network,
        bands=card.bands,
        gsd_m=GSD_M,
        tile_px=TILE_PX,
        margin_px=MARGIN_PX,
        precision="fp32",
        agreement_fp32=None,
        classes=card.classes,
        normalization=card.normalization,
        outputs=("labels",),
        weights_sha256="0" * 64,
        exporter="tests/docs",
    )


def constants(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Return statistics, where the margin is cut off, and random weights of CHAIN by name."""
    random = np.random.default_rng(11)
    widths = (len(spec.bands), WIDE, WIDE, CLASSES)
    return {
        "mean": np.reshape(spec.normalization.mean, (1, -1, 1, 1)).astype(np.float32),
        "std": np.reshape(spec.normalization.std, (1, -1, 1, 1)).astype(np.float32),
        "starts": np.array([MARGIN_PX, MARGIN_PX]),
        "ends": np.array([TILE_PX - MARGIN_PX, TILE_PX - MARGIN_PX]),
        "axes": np.array([2, 3]),
        "one": np.array(1, np.float32),
        **{
            f"kernel{number}": random.normal(size=(made, read, 1, 1)).astype(np.float32)
            for number, (read, made) in enumerate(pairwise(widths))
        },
    }


def five_band_model() -> onnx.ModelProto:
    """Return three pointwise convolutions with random weights, and the manifest."""
    spec = five_band_spec()
    sources = ["image", *(made for made, *_ in CHAIN)]
    nodes = [
        helper.make_node(operator, [source, *given], [made], **attributes)
        for source, (made, operator, given, attributes) in zip(sources, CHAIN, strict=False)
    ]
    image, labels = (
        helper.make_tensor_value_info(name, TensorProto.UINT8, ["N", *shape])
        for name, shape in expected_tensors(spec).items()
    )
    weights = [numpy_helper.from_array(value, name) for name, value in constants(spec).items()]
    graph = helper.make_graph(nodes, "small", [image], [labels], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    attach_manifest(model, spec)
    onnx.checker.check_model(model, full_check=True)
    return model


def patches(bands: int, seed: int) -> np.ndarray:
    """Return uint8 [bands, EDGE_PX, EDGE_PX] of squares of one colour each."""
    palette = np.random.default_rng(1).integers(0, 256, (5, COLOURS), dtype=np.uint8)
    palette[-1, : COLOURS // 2] = 0  # ground
    count = EDGE_PX // PATCH_PX
    chosen = np.random.default_rng(seed).integers(0, COLOURS, (count, count))
    return palette[-bands:, chosen].repeat(PATCH_PX, axis=1).repeat(PATCH_PX, axis=2)


def write_products(folder: Path) -> None:
    """Write two neighbouring tiles as RVB and IRC, and heights over both."""
    for number, (name, shift_m) in enumerate(SHIFT_M.items()):
        place = from_origin(ORIGIN_M[0] + shift_m, ORIGIN_M[1], GSD_M, GSD_M)
        write_tiff(folder / "RVB" / f"{name}.tif", patches(3, number), transform=place)
        write_tiff(folder / "IRC" / f"{name}.tif", patches(3, 10 + number), transform=place)
    height = np.concatenate([patches(1, 20), patches(1, 21)], axis=2)
    write_tiff(folder / "height.tif", height)
    terrain = np.full(height.shape, 100, np.float32)
    write_tiff(folder / "dtm.tif", terrain, nodata=-9999.0)
    write_tiff(folder / "dsm.tif", terrain + height / np.float32(5), nodata=-9999.0)


def write_area(path: Path) -> None:
    """Write a triangle over part of the images as GeoJSON in their CRS."""
    x, y = ORIGIN_M
    ring = [[x + 2, y - 2], [x + 12, y - 2], [x + 2, y - 12], [x + 2, y - 2]]
    name = f"urn:ogc:def:crs:{LAMBERT_93.replace(':', '::')}"
    crs = {"type": "name", "properties": {"name": name}}
    shape = {"type": "Polygon", "coordinates": [ring]}
    features = [{"type": "Feature", "properties": {}, "geometry": shape}]
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))


def write_communes(path: Path) -> None:
    """Write two zones over the images, with ids."""
    x, y = ORIGIN_M
    edges = ((x, x + 10), (x + 10, x + 40))
    shapes = np.array([shapely.box(left, y - 32, right, y) for left, right in edges])
    pyogrio.raw.write(
        path,
        shapely.to_wkb(shapes),
        [np.array(["11262", "11069"], object)],
        ["insee"],
        geometry_type="Polygon",
        crs=LAMBERT_93,
    )


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Every file the documented commands read, made once."""
    folder = tmp_path_factory.mktemp("inputs")
    image = write_tiff(folder / "image.tif", patches(5, 30))
    write_tiff(folder / "rgbi.tif", patches(4, 31))
    write_tiff(folder / "coarse.tif", patches(5, 32), gsd_m=0.5)
    write_tiff(folder / "scan.tif", patches(5, 33), crs=None)
    write_products(folder)
    write_area(folder / "area.geojson")
    write_communes(folder / "communes.gpkg")
    for seed, year in enumerate((2021, 2024)):
        write_map(folder / f"{year}.tif", patchy(EDGE_PX, EDGE_PX, seed))
    onnx.save(five_band_model(), folder / "model.onnx")
    convert_to_fp16(folder / "model.onnx", folder / "model.fp16.onnx")
    convert_to_int8(folder / "model.onnx", folder / "model.int8.onnx", [image])
    return folder


@pytest.fixture
def scratch(inputs, tmp_path, monkeypatch):
    """A folder of one test's own with all inputs, and the working folder."""
    folder = tmp_path / "clone"
    shutil.copytree(inputs, folder)
    monkeypatch.chdir(folder)
    return folder
