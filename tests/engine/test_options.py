import dataclasses

import pytest

from flair_engine import options
from flair_engine.options import Inputs, Job, Listener, MapOptions, ReadOptions, RunOptions

CLASSES = [kind for kind in vars(options).values() if dataclasses.is_dataclass(kind)]


@pytest.mark.parametrize("kind", CLASSES)
def test_choices_do_not_change_and_are_named(kind):
    assert kind.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(kind))


def test_given_products_are_those_with_names():
    assert Inputs().given == {}
    given = Inputs(dtm=("b.tif",), rvb=("a.tif",)).given
    assert list(given.items()) == [("rvb", ("a.tif",)), ("dtm", ("b.tif",))]
    everything = Inputs(**{field.name: ("x",) for field in dataclasses.fields(Inputs)})
    assert list(everything.given) == [field.name for field in dataclasses.fields(Inputs)]


def test_a_listener_is_silent_unless_told_otherwise():
    heard = []
    listener = Listener(notify=heard.append)
    listener.progress(1, 2)
    listener.status("building")
    listener.notify("height is missing")
    assert heard == ["height is missing"]


def test_nothing_is_asked_for_unless_it_is_said():
    """What is left out is what the files and the machine say, and nothing is lost."""
    job = Job(model="model.onnx", inputs=Inputs(), output="map.tif")
    assert (job.run, job.read, job.write) == (RunOptions(), ReadOptions(), MapOptions())
    read, write = job.read, job.write
    assert (read.bands, read.gsd_m, read.nodata, read.mask) == (None, None, None, None)
    assert (read.resample, read.on_error) == (False, "stop")
    assert (write.bbox, write.aoi, write.report) == (None, None, None)
    assert (write.labels, write.per_input, write.cog) == ("flair", False, False)
    assert (write.overwrite, write.resume) == (False, False)
