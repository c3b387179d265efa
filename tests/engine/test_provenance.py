"""The identity of a run changes with whatever can change a byte of its map."""

from pathlib import Path

import pytest

from flair_engine import Inputs, MapOptions, ReadOptions, RunOptions, provenance, run
from flair_engine.options import Job, Listener
from flair_engine.version import __version__

READ, WRITE = ReadOptions(), MapOptions()


@pytest.fixture
def identity(make_raster, tiny_path, tmp_path, monkeypatch):
    """Return the identity of a run over one raster with changes to its job."""
    make_raster("in.tif")
    make_raster("other.tif")
    seen = []
    known = provenance.identity

    def noting(work):
        seen.append(known(work))
        return seen[-1]

    monkeypatch.setattr(provenance, "identity", noting)

    def of(name="in.tif", *, read=READ, write=WRITE, **options):
        job = Job(
            model=tiny_path,
            inputs=Inputs(images=(str(tmp_path / name),)),
            output=tmp_path / "map.tif",
            run=RunOptions(**{"device": "cpu", "threads": 2, **options}),
            read=read,
            write=write,
        )
        (tmp_path / "map.tif").unlink(missing_ok=True)
        run.run(job, Listener())
        return seen[-1]

    return of


CHANGES = {
    "source": {"name": "other.tif"},
    "batch": {"batch": 3},
    "engine": {"threads": 1},
    "reading": {"read": ReadOptions(bands=(2, 1))},
    "writing": {"write": MapOptions(labels="zero-based")},
    "area": {"write": MapOptions(bbox=(721104.4, 6248978, 721106, 6248980.8))},
}


@pytest.mark.parametrize("field", CHANGES)
def test_what_changes_a_map_is_seen_by_its_name(identity, field):
    before, after = identity(), identity(**CHANGES[field])
    different = {name for name in before if before[name] != after[name]}
    assert field in different
    assert different <= {field, "products", "writing"}
    assert before["version"] == __version__


def test_what_changes_no_map_is_not_seen(identity):
    plain = identity()
    assert identity(slots=3) == plain
    assert identity(write=MapOptions(overwrite=True)) == plain


def test_a_file_that_changed_is_another(make_raster, tmp_path):
    path, _ = make_raster("in.tif")
    before = provenance.fingerprint(str(path))
    assert before == provenance.fingerprint(str(path))
    assert before[:2] == [str(path.resolve()), path.stat().st_size]
    with Path(path).open("ab") as file:
        file.write(b"x")
    assert provenance.fingerprint(str(path)) != before
    assert provenance.fingerprint("/vsicurl/https://there/in.tif") == [
        "/vsicurl/https://there/in.tif"
    ]
