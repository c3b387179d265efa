"""A model of the library on emulated GPUs: contexts belong to threads, a model to any of them."""

PROGRAM = """
import sys, threading
import numpy as np
from flair_engine import Model, RunOptions

path, plans, device = sys.argv[1:]
image = np.random.default_rng(5).integers(0, 256, (2, 70, 41), dtype=np.uint8)
for close_elsewhere in (False, True):
    model = Model(path, RunOptions(engine="trt", device=device, batch=5, plan_cache=plans))
    first, found = model.predict(image), []
    works = [lambda: found.append(model.predict(image))] * 3 + [model.close] * close_elsewhere
    for work in works:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(found) == 3 and all((each == first).all() for each in found)
    model.close()
"""


def test_any_thread_may_use_a_model_and_close_it(job):
    arguments = (job.model, job.folder / "plans", "cuda:all")
    ended = job.ended(*job.python(PROGRAM, "library", arguments, gpus=2))
    assert (ended.code, ended.found, ended.said) == (0, [], "")
