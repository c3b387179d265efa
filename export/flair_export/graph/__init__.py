"""ONNX graphs whatever they compute: their contract, shapes, work, and the steps of a rewrite."""
