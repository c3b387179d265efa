"""Every tolerance of the project: what counts as the same grid, and as the same labels.

Shares are of labels equal to a reference, 0..1, over all compared pixels.
"""

from __future__ import annotations

ALIGNED_PX = 0.1
"""Files whose grids differ by less are taken as one grid: origins are delivered rounded, and
warping by a tenth of a pixel would blur more than it mends."""

GSD_TOLERANCE = 0.01
"""Relative. Delivered files round the pixel size (0.200000000000001) and true sizes differ by more
than this where it matters (0.15, 0.25 m)."""

EDGE_DECIMALS = 3
"""Of pixels, to which edges of files on other grids are rounded before whole pixels are counted."""

EXTENT_TOLERANCE = 1e-6
"""Share of the raster by which products may cover less than the first without a word."""

SEAM_SHARE = 0.1
"""Share of the smaller of two files above which they show the same ground, not a seam: neighbours
of an aerial survey are cut with some tens of metres in common."""

FAR_APART_PX = 10**9
FAR_APART = 1000
"""Pixels of a box, and its size in what files cover of it, above which one map of them is taken for
an error: a whole country fills about half of its box."""

EXPORTED_EQUAL = 0.9999
"""Of an exported FP32 file to PyTorch. FP32 sums in another order flip only what nearly ties."""

EXPORTED_COUNTS = 1
"""Largest difference of confidence and probabilities in counts of 255: halves round either way."""

FP16_FILE_EQUAL = 0.995
"""Of an FP16 file to the FP32 one, on a CPU: the rounding of weights alone."""

DEEPNESS_EQUAL = 0.999
"""Of a file for the Deepness plugin to the FP32 one: values are divided by 255 and multiplied
again on their way in."""

INT8_FILE_EQUAL = 0.99
"""Of an INT8 file to the FP32 one, on images that were not measured."""

INT8_CLASS_EQUAL = 0.95
INT8_IMAGE_EQUAL = 0.97
INT8_COUNTED_PX = 10_000
"""Of the worst class and of the worst image of the same comparison, where they have so many pixels:
a file that is good on average may be bad on one kind of land. The stand-in's worst on real images
were 97.0 % of a class and 97.7 % of a patch."""

PLAN_EQUAL = {"images": 0.995, "noise": 0.9}
"""Of a TensorRT plan to its graph in FP32. On noise, where many pixels nearly tie, agreement only
tells a working plan from a broken one."""

UNASKED_EQUAL = 0.995
"""Of bf16 to the same file in FP32, on tiles of the raster: below that only who asks for it gets
it."""

ENGINE_EQUAL = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.99, "int8": 0.99, "int8 bf16": 0.98}
"""Of an engine to PyTorch FP32 in a benchmark, by what the engine computes in. 10 bits of mantissa
(FP16) and 7 (BF16) widen what nearly ties by 2^13 and 2^16. INT8 has 8 bits for the whole range of
a tensor; beside bf16 the two may flip labels one after the other."""

LEAN = (0.4, 0.6)
LEAN_COUNTED = 1000
LEAN_MOVED = 0.0005
"""Least and largest share of differing labels that may be lower than the reference's, judged where
more than LEAN_COUNTED differ and one direction has LEAN_MOVED of all pixels more than the other.

Logits stored in so few bits that they tie move 0.87 to 0.93 of what differs to the lower label,
because ArgMax takes the first, and more pixels one way than the other: bf16 0.7 % of them, FP16
0.08 to 0.13 %. Below that there is no telling: whatever is rounded shifts the edge between two
classes a little, one way along all of it, so an FP16 file that differs on 0.06 % of the pixels has
a lean of 0.3, and moves 0.02 % (all on real patches that the stand-in has not seen)."""

DEMO_EQUAL = 0.8
"""Of the demo's map to the scene as it was drawn."""
