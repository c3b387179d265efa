"""Checkpoints to networks, and networks to ONNX graphs; torch lives here."""
