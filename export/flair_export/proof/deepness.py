"""Answers of a file for Deepness, asked for the way the plugin of QGIS does it.

Written anew from what the plugin does (processing/models/model_base.py and preprocessing_utils.py,
map_processor_segmentation.py): what the file's metadata says is read from the file, so that a wrong
word of it shows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.inference.onnx_runtime import open_session

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class PluginAnswer:
    """What the plugin makes of a batch of tiles."""

    shares: np.ndarray
    """float32 [N, classes, T, T]."""
    channels: np.ndarray
    """int [N, T, T], the channel of the largest share."""


class PluginModel:
    """A file for Deepness in ONNX Runtime. Raises EngineError for one that it refuses."""

    def __init__(self, model: Path) -> None:
        self._session = open_session(model)
        said = self._session.get_modelmeta().custom_metadata_map
        self._mean = np.array(json.loads(said["standardization_mean"]), np.float32)
        self._std = np.array(json.loads(said["standardization_std"]), np.float32)
        self._threshold = float(json.loads(said["seg_thresh"]))
        names = json.loads(said["class_names"])
        self.class_names = [names[str(number)] for number in range(len(names))]

    def answer(self, images_nchw: np.ndarray) -> PluginAnswer:
        """Return what the plugin makes of uint8 [N, bands, T, T]."""
        (fed,) = self._session.get_inputs()
        tiles_nhwc = images_nchw.transpose(0, 2, 3, 1)[..., : fed.shape[-3]]
        unit = (tiles_nhwc * 1.0 / 255.0).astype(np.float32)
        batch = ((unit - self._mean) / self._std).transpose(0, 3, 1, 2)
        (shares,) = self._session.run(None, {fed.name: batch})
        kept = np.where(shares < self._threshold, np.float32(0), shares)
        return PluginAnswer(shares=shares, channels=kept.argmax(axis=1))
