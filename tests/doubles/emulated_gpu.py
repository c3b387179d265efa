"""Parts of an emulated GPU that are Python: TensorRT, and runs of the command beside the driver.

The driver is tests/emulated/driver.cpp, pycuda the real one; tests/emulated/build.py builds both.
TensorRT is the stand-in of fake_tensorrt.py, whose batches are queued on the driver's streams and
computed there by ONNX Runtime, from and to the emulated memory. It proves order, lifetimes and
calls, and nothing about speed or FP16.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from emulated.build import DRIVER, SITE, is_built, missing

from doubles import fake_tensorrt
from doubles.paths import ROOT
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import INPUT_NAME

RELEASE = "10.13.3.9"
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Machine(fake_tensorrt.Machine):
    """The emulated host as the stand-in for TensorRT sees it."""

    def __init__(self):
        super().__init__(RELEASE)
        self.fail = set(os.environ.get("EMULATED_TRT_FAIL", "").split())
        self.library = ctypes.CDLL("libcuda.so.1")
        self.kernels = []
        """Kept, as C knows of no references; a run has some thousands."""

    def need_context(self):
        self._device()

    @property
    def name(self):
        """Model of the device whose context is current."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self._device())
        return name.value.decode()

    @name.setter
    def name(self, _):
        """Leave it to the driver."""

    def queue_inference(self, stream, _context, model, addresses, shapes, _spoil):
        """Queue a run of the graph on a stream of the driver."""
        ((_, shape),) = shapes.items()
        names = [name for name in addresses if name != INPUT_NAME]

        def compute(_argument):
            outputs = computed(model, memory(addresses[INPUT_NAME], shape))
            for name, value in outputs.items():
                memory(addresses[name], value.shape)[...] = value

        kernel = KERNEL(compute)
        self.kernels.append(kernel)
        read = (ctypes.c_uint64 * 1)(addresses[INPUT_NAME])
        written = (ctypes.c_uint64 * len(names))(*(addresses[name] for name in names))
        self._call(
            "emulated_launch", ctypes.c_void_p(stream), kernel, None, read, 1, written, len(names)
        )

    def _device(self):
        device = ctypes.c_int()
        self._call("cuCtxGetDevice", ctypes.byref(device))
        return device.value

    def _call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code:
            raise RuntimeError(f"{name} failed with {code}")


@cache
def session_of(model):
    """Return the session of a graph, opened as `--engine ort` does."""
    return open_session(model, threads=int(os.environ.get("EMULATED_THREADS", "2")))


def computed(model, image):
    """Return the outputs for a batch, computed once where EMULATED_KEPT names a folder.

    What is kept is found by the bytes of graph and batch, so that large networks can be run often.
    """
    folder = os.environ.get("EMULATED_KEPT")
    name = hashlib.sha256(digest_of(model) + image.tobytes()).hexdigest() if folder else ""
    path = Path(folder or "", f"{name}.npz")
    if folder and path.exists():
        with np.load(path) as kept:
            return dict(kept)
    session = session_of(model)
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, {INPUT_NAME: image}), strict=True))
    if folder:
        new = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.new.npz")
        np.savez(new, **outputs)
        new.rename(path)
    return outputs


@cache
def digest_of(model):
    return hashlib.sha256(model).digest()


def memory(address, shape):
    """Return the emulated memory at an address, uint8."""
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address)).reshape(shape)


def environment(log, **changes):
    """Return the variables of a process that finds the emulated GPUs; what they find goes to `log`.

    `changes` are variables of the driver without EMULATED_: gpus=2, gpu_fail="1:20".
    """
    folders = [ROOT / "tests", ROOT / "tests" / "emulated" / "on_path", SITE]
    before = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*map(str, folders), *([before] if before else [])]),
        "LD_LIBRARY_PATH": str(DRIVER.parent),
        "EMULATED_GPU_LOG": str(log),
        **{f"EMULATED_{name.upper()}": str(value) for name, value in changes.items()},
    }


def skip_unless_built():
    """Skip a test, by what is missing, where the emulated GPU is not built."""
    import pytest  # not in the runs, which import this module too

    if not is_built():
        pytest.skip(missing() or "the emulated GPU is not built: make gpu-emulated")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended beside the emulated GPUs."""

    code: int
    said: str
    """On stderr."""
    found: list[str]
    """By the driver."""

    @property
    def lines(self):
        """What was said but for notes."""
        lines = self.said.splitlines()
        return [line for line in lines if not line.startswith("flair-run: note: ")]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run of the command over a raster, with TensorRT unless told otherwise."""

    folder: Path
    model: Path
    raster: Path
    batch: int

    def arguments(self, name, *options):
        """Return the command line, for the map of a name."""
        given = ["-m", self.model, self.raster, self.folder / name, "--batch", self.batch]
        given += ["--plan-cache", self.folder / "plans", "--threads", 2, *options]
        return [*map(str, given), *(() if "--engine" in options else ("--engine", "trt"))]

    def start(self, name, *options, before="", **changes):
        """Start it; `before` is Python that is executed first. Return the process and its log."""
        program = f"{before}\nfrom flair_engine.__main__ import main\nmain()"
        return self.python(program, name, self.arguments(name, *options), **changes)

    def python(self, program, name, arguments=(), **changes):
        """Start a program; return the process and its log, of a name."""
        log = self.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        command = [sys.executable, "-c", program, *map(str, arguments)]
        return subprocess.Popen(
            command, env=environment(log, **changes), stderr=subprocess.PIPE, text=True
        ), log

    def run(self, name, *options, before="", **changes):
        """Run it to its end."""
        process, log = self.start(name, *options, before=before, **changes)
        return self.ended(process, log)

    def ended(self, process, log):
        """Wait for a run; return how it ended."""
        _, said = process.communicate(timeout=120)
        found = log.read_text().splitlines() if log.exists() else []
        return Ended(code=process.returncode, said=said, found=found)
