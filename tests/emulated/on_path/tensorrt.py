"""A stand-in for `tensorrt` over the emulated driver; see doubles/emulated_gpu.py."""

import sys

from doubles.emulated_gpu import Machine

sys.modules[__name__] = Machine().tensorrt
