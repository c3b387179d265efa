"""ONNX graphs as data: shared passes, shapes, arithmetic, the contract they keep."""
