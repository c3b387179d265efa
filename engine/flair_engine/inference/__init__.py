"""Tiles to labels: the interface of a runtime, the way of strips through it, and the runtimes.

To be read in this order: base, stream, labelling, choose, onnx_runtime, open_vino, gpu.
"""
