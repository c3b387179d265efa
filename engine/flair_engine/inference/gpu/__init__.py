"""Everything that needs an NVIDIA GPU; the only room that imports pycuda and tensorrt.

To be read in this order: cuda, slots, onnx_cuda; plan, plan_cache, tensor_rt, judged_plan.
"""
