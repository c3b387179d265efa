"""FP32 files to FP16 and INT8 ones, and to TensorRT plans."""
