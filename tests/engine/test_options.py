import dataclasses

import pytest

from flair_engine import options
from flair_engine.options import Inputs, Listener

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
