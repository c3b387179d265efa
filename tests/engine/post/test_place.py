import filelock
import pytest
from doubles.paths import listing

from flair_engine.errors import OutputError, WriteError
from flair_engine.post.place import LOCK, check_file, put, workplace


def check(path, ours=False, overwrite=False):
    check_file(path, (".csv", ".parquet"), lambda _: ours, overwrite=overwrite)


def test_a_free_name_and_one_of_ours_that_may_go(tmp_path):
    check(tmp_path / "a.csv")
    (tmp_path / "a.csv").touch()
    check(tmp_path / "a.csv", ours=True, overwrite=True)


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"ends in .txt, expected .csv or .parquet: give another"):
        check(tmp_path / "a.txt")
    with pytest.raises(OutputError, match=r"a.csv: the folder .*nothing does not exist"):
        check(tmp_path / "nothing" / "a.csv")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(OutputError, match=r"b.csv: is a folder: give a name ending in .csv or"):
        check(tmp_path / "b.csv")
    (tmp_path / "a.csv").touch()
    with pytest.raises(OutputError, match=r"x.csv: the folder .*a.csv does not exist"):
        check(tmp_path / "a.csv" / "x.csv")
    with pytest.raises(OutputError, match="exists already and is not of flair-engine"):
        check(tmp_path / "a.csv", overwrite=True)
    with pytest.raises(OutputError, match="exists already: use --overwrite"):
        check(tmp_path / "a.csv", ours=True)


def test_a_workplace_is_empty_and_goes(tmp_path):
    left = tmp_path / ".a.csv.flair-post"
    left.mkdir()
    (left / "half").touch()
    with workplace(tmp_path / "a.csv") as folder:
        assert listing(folder) == [LOCK]
        (folder / "made").touch()
    assert listing(tmp_path) == []


def test_two_do_not_write_one_output(tmp_path):
    folder = tmp_path / ".a.csv.flair-post"
    folder.mkdir()
    with (
        filelock.FileLock(folder / LOCK),
        pytest.raises(OutputError, match="another flair-post is writing it"),
        workplace(tmp_path / "a.csv"),
    ):
        pass


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / ".a.csv.flair-post").touch()
    with (
        pytest.raises(OutputError, match=r"a.csv: nothing can be written beside it \(File exists"),
        workplace(tmp_path / "a.csv"),
    ):
        pass


def test_names_come_last(tmp_path):
    (tmp_path / "one").write_text("new")
    (tmp_path / "old").write_text("old")
    put([(tmp_path / "one", tmp_path / "two")], remove=[tmp_path / "old"])
    assert (tmp_path / "two").read_text() == "new"
    assert listing(tmp_path) == ["two"]
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "x").touch()
    with pytest.raises(WriteError, match=r"here: cannot be put in place"):
        put([(tmp_path / "two", tmp_path / "here")])
    assert (tmp_path / "two").exists()
