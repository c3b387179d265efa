import pytest
from click.testing import CliRunner

from flair_engine.errors import SourceError
from flair_engine.post import cli, work


@pytest.fixture
def called(monkeypatch):
    """Calls of the sub-commands' functions, which do nothing."""
    calls = {}
    for name in ("sieve", "polygons", "hectares", "change", "vrt"):

        def call(*given, listener, name=name, **named):
            listener.notify("a [note]")
            listener.progress(1, 2)
            calls[name] = (*map(str, given), named)
            return "done"

        monkeypatch.setattr(work, name, call)
    return calls


def invoke(*words):
    return CliRunner().invoke(cli.command, words)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sieve a.tif b.tif --min-m2 5", ("a.tif", "b.tif", "5.0", {"overwrite": False})),
        (
            "polygons a.tif b.gpkg --simplify 2 --overwrite",
            ("a.tif", "b.gpkg", "0.0", "2.0", {"overwrite": True}),
        ),
        (
            "hectares a.tif --zones z.gpkg --id insee -o t.csv",
            ("a.tif", "z.gpkg", "insee", "None", "t.csv", {"overwrite": False}),
        ),
        (
            "change a.tif b.tif -o t.csv --map c.tif --resample nearest",
            ("a.tif", "b.tif", "t.csv", "c.tif", {"resample": True, "overwrite": False}),
        ),
        ("vrt tiles all.vrt", ("tiles", "all.vrt", {"overwrite": False})),
    ],
)
def test_words_become_arguments(called, line, expected):
    done = invoke(*line.split())
    assert done.exit_code == 0, done.output
    assert called[line.split()[0]] == expected
    assert done.stdout == "done\n"
    assert done.stderr == "flair-post: note: a [note]\n"


def test_quiet_says_what_has_to_be_known(called):
    done = invoke("vrt", "tiles", "all.vrt", "-q")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "flair-post: note: a [note]\n"


def test_a_terminal_sees_a_bar(called, monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    done = invoke("vrt", "tiles", "all.vrt")
    assert "50 %" in done.stderr


def test_help_names_every_sub_command():
    said = invoke("--help").output
    for name in ("sieve", "polygons", "hectares", "change", "vrt"):
        assert f"  {name} " in said


def test_what_is_refused_is_one_line(monkeypatch, capfd):
    def refuse(*_, **__):
        raise SourceError("a.tif: is no map", "name one")

    monkeypatch.setattr(work, "vrt", refuse)
    monkeypatch.setattr("sys.argv", ["flair-post", "vrt", "a", "b.vrt"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capfd.readouterr().err == "flair-post: a.tif: is no map: name one\n"
