"""Parts of an emulated GPU that are Python: TensorRT, and runs of the command beside the driver.

The driver is tests/emulated/driver.cpp, pycuda the real one; tests/emulated/build.py builds both.
TensorRT is the stand-in of fake_tensorrt.py, whose batches are queued on the driver's streams and
computed there by ONNX Runtime, from and to the emulated memory. It proves order, lifetimes and
calls, and nothing about speed or FP16.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

import numpy as np

from doubles import fake_tensorrt
from doubles.paths import ROOT
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import INPUT_NAME

RELEASE = "10.13.3.9"
FOLDER = ROOT / ".gpu-emulated" / f"cp{sys.version_info.major}{sys.version_info.minor}"
KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Machine:
    """The emulated host as the stand-in for TensorRT sees it."""

    def __init__(self):
        self.release = RELEASE
        self.fail = set(os.environ.get("EMULATED_TRT_FAIL", "").split())
        self.spoil = None
        self.builds, self.configs = 0, []
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.kernels = []
        """Kept, as C knows of no references; a run has some thousands."""
        self.tensorrt = fake_tensorrt.make_tensorrt(self)

    def need_context(self):
        self._device()

    @property
    def name(self):
        """Of the device whose context is current."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self._device())
        return name.value.decode()

    def queue_inference(self, stream, _context, model, addresses, shapes, _spoil):
        """Queue a run of the graph on a stream of the driver."""
        ((_, shape),) = shapes.items()
        session = session_of(model)
        names = [output.name for output in session.get_outputs()]

        def compute(_argument):
            image = memory(addresses[INPUT_NAME], shape)
            found = session.run(names, {INPUT_NAME: image})
            for name, value in zip(names, found, strict=True):
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
        code = getattr(self.driver, name)(*arguments)
        if code:
            raise RuntimeError(f"{name} failed with {code}")


@cache
def session_of(model):
    """Return the session of a graph, opened as `--engine ort` does."""
    return open_session(model, threads=int(os.environ.get("EMULATED_THREADS", "2")))


def memory(address, shape):
    """Return the emulated memory at an address, uint8."""
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address)).reshape(shape)


def environment(log, **changes):
    """Return the variables of a process that finds the emulated GPU; findings go to `log`."""
    paths = [ROOT / "tests", ROOT / "tests" / "emulated" / "on_path", FOLDER / "site"]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
        "LD_LIBRARY_PATH": str(FOLDER / "lib"),
        "EMULATED_GPU_LOG": str(log),
        **{f"EMULATED_{name}".upper(): str(value) for name, value in changes.items()},
    }
