"""Export as a whole: a checkpoint to a proven ONNX file, at its name only once it is proven."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flair_engine.errors import OutputError
from flair_engine.grid import check_geometry
from flair_engine.inference.onnx_runtime import import_onnxruntime
from flair_engine.manifest import MANIFEST_SCHEMA, OUTPUT_NAMES, ModelSpec, read_model_spec, spec_of
from flair_engine.overwriting import refuse_inputs
from flair_engine.system import free_memory_bytes
from flair_engine.version import __version__
from flair_export.cards import (
    CARDS,
    GSD_M,
    MARGIN_PX,
    OFFICIAL_TILE_PX,
    TILE_PX,
    Card,
    export_bytes,
    find_card,
)
from flair_export.errors import ExporterMissingError, ExportError, OptionError
from flair_export.proof.samples import calibration, check_images
from flair_export.proof.verify import Verdict, VerificationError, verify
from flair_export.writing import at_last, is_model, write_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from flair_export.convert.deepness import DeepnessVerdict
    from flair_export.convert.fp16 import Fp16Verdict
    from flair_export.convert.int8 import Int8Verdict
    from flair_export.proof.reference import Network

Converted = TypeVar("Converted")
EXTRA_PACKAGES = ("torch", "segmentation_models_pytorch", "safetensors", "huggingface_hub")
"""Those that the `export` extra brings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """How to export. The defaults are the fastest geometry for most machines and labels alone."""

    model: str | None = None
    """Name of the published model; None deduces it from the tensors."""
    outputs: tuple[str, ...] = ("labels",)
    """`labels`, then optionally `confidence` and `probabilities`."""
    tile_px: int = TILE_PX
    margin_px: int = MARGIN_PX
    """Pixels on each side of a tile whose labels are not kept."""
    verify: tuple[Path, ...] = ()
    """Rasters to prove the export on, besides noise and a synthetic scene."""
    calibrate: tuple[Path, ...] = ()
    """Rasters like those to be mapped, that `export_int8` measures."""
    context_crop: bool = True
    """Compute only what the kept centre of a tile needs, with upsampling folded into convolutions;
    False for the graph as PyTorch has it, to compare."""
    trust_checkpoint: bool = False
    """Load pickles that can run code."""
    overwrite: bool = False


def export(
    checkpoint: str | Path,
    output: str | Path,
    options: ExportOptions | None = None,
    status: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Export a weights file or Hub id to the ONNX file `output` and prove it.

    `status` is told each step in a few words. Raises FlairError, in particular VerificationError
    with the verdict where the file does not give PyTorch's labels; nothing is at `output` then
    but what was there before.
    """
    options = options or ExportOptions()
    path = Path(output)
    check_request(path, checkpoint, options)

    from flair_export.network.checkpoint import choose_card, load_network, read_checkpoint
    from flair_export.network.weights_file import weights_name

    source = str(checkpoint)
    status(f"reading {source}")
    read = read_checkpoint(source, trust=options.trust_checkpoint)
    card = choose_card(read, options.model or _named_by_hub_id(source))
    check_images((*options.verify, *options.calibrate), card.bands)
    check_memory(card, options.tile_px)
    net = load_network(read, card)
    spec = model_spec(card, weights_name(source), read.sha256, options)
    if options.calibrate:
        calibration(spec, options.calibrate)  # refuses too few tiles before the long work
    status("building the graph")
    model = _graph(net, spec, crop=options.context_crop)
    with at_last(path) as temporary:
        verdict = _write_proven(temporary, net, model, options.verify, status)
        if verdict.faults:
            raise VerificationError(
                f"{path}: not written, the export is not faithful: {'; '.join(verdict.faults)}",
                "try other versions of torch, onnx or onnxruntime",
                verdict,
            )
    return verdict


def card_of_checkpoint(checkpoint: str | Path, options: ExportOptions) -> Card:
    """Return the published model whose network a checkpoint holds. Raises FlairError."""
    from flair_export.network.checkpoint import choose_card, read_checkpoint

    source = str(checkpoint)
    read = read_checkpoint(source, trust=options.trust_checkpoint)
    return choose_card(read, options.model or _named_by_hub_id(source))


def _write_proven(
    path: Path,
    net: Network,
    model: onnx.ModelProto,
    images: tuple[Path, ...],
    status: Callable[[str], None],
) -> Verdict:
    """Write a graph, read it back and compare the file with the network it was made of."""
    from flair_export.graph.contract import with_logits

    write_model(path, model)
    if read_model_spec(path) != spec_of(model, "the graph"):
        raise ExportError(f"{path}: reads back as another model", "check the disk")
    return verify(net, path, with_logits(model).SerializeToString(), images, status)


def _graph(net: Network, spec: ModelSpec, *, crop: bool) -> onnx.ModelProto:
    """Return the ONNX graph of a network, computing only what the kept centre needs if asked to."""
    from flair_export.graph.contract import check_graph
    from flair_export.network.modules import LabelNetwork
    from flair_export.network.trace import build_graph
    from flair_export.rewrite.context_crop import crop_context
    from flair_export.rewrite.upsampling import fold_upsampling, spell_out_transposed

    model = build_graph(LabelNetwork(net, spec), spec)
    if crop:
        model = spell_out_transposed(crop_context(fold_upsampling(model)))
        check_graph(model, spec)
    return model


def export_fp16(
    source: str | Path,
    output: str | Path,
    options: ExportOptions | None = None,
    status: Callable[[str], None] = lambda _: None,
) -> tuple[Verdict | None, Fp16Verdict]:
    """Write the FP16 model of a weights file, a Hub id or an FP32 file of `export` to `output`.

    Returns the verdict on the FP32 export, None where `source` is an ONNX file, and that on FP16.
    Of an ONNX file nothing needs torch. Raises FlairError; nothing is at `output` then but what
    was there before.
    """
    from flair_export.convert.fp16 import convert_to_fp16

    options = options or ExportOptions()

    def convert(full: Path, temporary: Path) -> Fp16Verdict:
        return convert_to_fp16(full, temporary, options.verify, status)

    return _converted(source, Path(output), options, convert, status)


def export_int8(
    source: str | Path,
    output: str | Path,
    options: ExportOptions,
    status: Callable[[str], None] = lambda _: None,
) -> tuple[Verdict | None, Int8Verdict]:
    """Write the INT8 model of a weights file, a Hub id or an FP32 file of `export` to `output`.

    Measures `options.calibrate`; returns and raises as `export_fp16`.
    """
    if not options.calibrate:
        raise OptionError(
            "precision int8 has to measure images like those to be mapped",
            "name some with --calibrate",
        )
    from flair_export.convert.int8 import convert_to_int8

    def convert(full: Path, temporary: Path) -> Int8Verdict:
        return convert_to_int8(full, temporary, options.calibrate, options.verify, status)

    return _converted(source, Path(output), options, convert, status)


def export_deepness(
    source: str | Path,
    output: str | Path,
    options: ExportOptions | None = None,
    status: Callable[[str], None] = lambda _: None,
) -> tuple[Verdict | None, DeepnessVerdict]:
    """Write the model of a weights file, a Hub id or an FP32 file for Deepness to `output`.

    Without a margin, whatever the options say: the plugin of QGIS cuts what tiles share. Returns
    and raises as `export_fp16`.
    """
    from flair_export.convert.deepness import convert_to_deepness

    options = replace(options or ExportOptions(), margin_px=0)

    def convert(full: Path, temporary: Path) -> DeepnessVerdict:
        return convert_to_deepness(full, temporary, options.verify, status)

    return _converted(source, Path(output), options, convert, status)


def is_onnx(source: str | Path) -> bool:
    """Return whether a source is an ONNX file by its name, and no checkpoint."""
    return Path(source).suffix == ".onnx"


def _converted(
    source: str | Path,
    output: Path,
    options: ExportOptions,
    convert: Callable[[Path, Path], Converted],
    status: Callable[[str], None],
) -> tuple[Verdict | None, Converted]:
    """Put at `output` what `convert` makes of an FP32 file, exported first where need be."""
    if is_onnx(source):
        _check_output(output, source, options)
        with at_last(output) as temporary:
            return None, convert(Path(source), temporary)
    check_request(output, source, options)
    with at_last(output) as temporary:
        full = temporary.with_suffix(".onnx")
        try:
            verdict = export(source, full, replace(options, overwrite=True), status)
            return verdict, convert(full, temporary)
        finally:
            full.unlink(missing_ok=True)


def _check_output(output: Path, source: str | Path, options: ExportOptions) -> None:
    """Raise OutputError unless a model can be put at `output`, where no input may stand."""
    if not output.parent.is_dir():
        raise OutputError(f"{output}: its folder does not exist", "create it first")
    if output.is_dir():
        raise OutputError(f"{output}: is a folder", "give the name of a file in it")
    refuse_inputs([output], map(str, (source, *options.verify, *options.calibrate)))
    if not os.path.lexists(output):
        return
    if not is_model(output):
        raise OutputError(
            f"{output}: exists already and is no model of flair-export",
            "give a name that does not exist",
        )
    if not options.overwrite:
        raise OutputError(f"{output}: exists", "give another name, or --overwrite to replace it")


def check_request(output: Path, source: str | Path, options: ExportOptions) -> None:
    """Refuse whatever can be refused before the heavy work."""
    _check_output(output, source, options)
    check_geometry(options.tile_px, options.margin_px)
    if list(options.outputs) != [name for name in OUTPUT_NAMES if name in options.outputs] or (
        "labels" not in options.outputs
    ):
        raise OptionError(
            f"outputs {','.join(options.outputs) or 'none'} are not an export",
            "name labels first, then optionally confidence and probabilities",
        )
    if options.model is not None:
        find_card(options.model)
    if absent := [name for name in EXTRA_PACKAGES if importlib.util.find_spec(name) is None]:
        raise ExporterMissingError(
            f"{', '.join(absent)} not installed", "run pip install 'flair-engine[export]'"
        )
    import_onnxruntime()


def check_memory(card: Card, tile_px: int) -> None:
    """Raise OptionError where an export at a tile needs more memory than is free."""
    needed, there = export_bytes(card, tile_px), free_memory_bytes()
    if needed <= there:
        return
    fits = [
        smaller
        for smaller in (tile_px >> 1, tile_px >> 2, tile_px >> 3)
        if smaller >= OFFICIAL_TILE_PX and export_bytes(card, smaller) <= there
    ]
    raise OptionError(
        f"exporting {card.short_name} at tiles of {tile_px} px takes about {needed / 2**30:.1f} "
        f"GiB, {there / 2**30:.1f} are free",
        f"free some memory, or use --tile {fits[0]}" if fits else "export it on another machine",
    )


def _named_by_hub_id(checkpoint: str) -> str | None:
    """Return the model a published Hub id stands for; its file has to agree like any other."""
    published = any(card.hub_id == checkpoint for card in CARDS)
    return checkpoint if published and not Path(checkpoint).exists() else None


def model_spec(card: Card, name: str, sha256: str, options: ExportOptions) -> ModelSpec:
    """Return the manifest of weights `name` of `sha256` that fit `card`."""
    torch_version = metadata.version("torch")
    return ModelSpec(
        schema=MANIFEST_SCHEMA,
        name=name,
        architecture=card.network,
        bands=card.bands,
        gsd_m=GSD_M,
        tile_px=options.tile_px,
        margin_px=options.margin_px,
        precision="fp32",
        agreement_fp32=None,
        classes=card.classes,
        normalization=card.normalization,
        outputs=options.outputs,
        weights_sha256=sha256,
        exporter=f"flair-export {__version__}, torch {torch_version}",
    )
