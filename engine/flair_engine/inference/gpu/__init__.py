"""Everything that needs an NVIDIA GPU; the only room that imports pycuda and tensorrt."""
