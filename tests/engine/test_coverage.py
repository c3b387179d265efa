"""Panels hold all that is asked for and no more, maps the panels they are put together from."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from doubles.field import X, Y, noise, write, write_shapes
from doubles.tiny_model import SPEC, write_box_model

from flair_engine import Inputs, MapOptions, ReadOptions, read_model_spec
from flair_engine.coverage import planned, too_large_tiles
from flair_engine.errors import OutputError, SourceError
from flair_engine.grid import Window
from flair_engine.options import Job
from flair_engine.reading.inputs import open_inputs

CORE = SPEC.tile_px - 2 * SPEC.margin_px
NOWHERE = {"crs": None, "transform": None}


@pytest.fixture
def plan(tmp_path):
    """Plan a run over the files in `in`; return its panels, targets, sheets and notices."""
    spec = read_model_spec(write_box_model(tmp_path, "red", "green"))
    (tmp_path / "out").mkdir()

    def plan(*names, read=None, memory_mib=512, **write):
        given = names or ("",)
        apart = write.get("per_input", False)
        job = Job(
            model=tmp_path / "model.onnx",
            inputs=Inputs(images=tuple(str(tmp_path / "in" / name) for name in given)),
            output=tmp_path / "out" if apart else tmp_path / "out" / "map.tif",
            read=read or ReadOptions(),
            write=MapOptions(**write),
        )
        opened = open_inputs(spec, job.inputs, job.read, apart=apart)
        told = []
        panels, targets = planned(job, spec, opened, memory_mib, told.append)
        opened.close()
        return SimpleNamespace(panels=panels, targets=targets, sheets=opened.sheets, told=told)

    return plan


def put(tmp_path, name, row, col, height=40, width=50, **profile):
    """Write a file of two bands at a row and column; return its window."""
    seed = height * 7 + width
    write(tmp_path / "in" / name, noise(2, height, width, seed=seed), row=row, col=col, **profile)
    return Window(top=row, left=col, height=height, width=width)


def box(top, left, bottom, right):
    """Return the box around some rows and columns of pixels, a little inside their edges."""
    return (X + 0.2 * left + 0.01, Y - 0.2 * bottom + 0.01,
            X + 0.2 * right - 0.01, Y - 0.2 * top - 0.01)  # fmt: skip


def cores_of(panels, sheet, *, wanted=True):
    """Return how often each core of a sheet is in a panel, or is wanted there."""
    height, width = sheet.pixel_grid.height, sheet.pixel_grid.width
    found = np.zeros((-(-height // CORE), -(-width // CORE)), int)
    for panel in panels:
        if panel.sheet is sheet:
            for i in panel.cores.rows:
                for j in panel.cores.cols:
                    found[i, j] += not wanted or panel.is_wanted(i, j)
    return found


def touched(sheet, windows):
    """Return 1 for each core of a sheet that has a pixel of some windows, else 0."""
    height, width = sheet.pixel_grid.height, sheet.pixel_grid.width
    pixels = np.zeros((-(-height // CORE) * CORE, -(-width // CORE) * CORE), bool)
    for window in windows:
        pixels[window.slices] = True
    rows, cols = (size // CORE for size in pixels.shape)
    return pixels.reshape(rows, CORE, cols, CORE).any((1, 3)).astype(int)


def names_of(targets):
    return [each.target.path.name for each in targets]


def assert_numbered_once(panels):
    assert [panel.number for panel in panels] == list(range(len(panels)))


def test_one_file_is_one_panel_and_one_map(tmp_path, plan):
    window = put(tmp_path, "a.tif", 0, 0)
    found = plan()
    (panel,), (target,), (sheet,) = found.panels, found.targets, found.sheets
    assert (panel.number, panel.selected, panel.cores.window) == (0, None, window)
    assert panel.is_wanted(2, 3)
    assert target.target.path == tmp_path / "out" / "map.tif"
    assert target.target.window == window
    assert (target.panels, target.sheet) == ((panel,), sheet)
    assert found.told == []


def test_a_wide_raster_is_cut_into_panels(tmp_path, plan):
    put(tmp_path, "a.tif", 0, 0)
    found = plan(memory_mib=0)
    assert [panel.cores.cols for panel in found.panels] == [range(j, j + 1) for j in range(4)]
    assert_numbered_once(found.panels)
    assert found.targets[0].panels == tuple(found.panels)
    assert (cores_of(found.panels, found.sheets[0]) == 1).all()


@pytest.mark.parametrize("memory_mib", [0, 512])
@pytest.mark.parametrize("per_input", [False, True])
def test_files_far_apart_are_small_areas(tmp_path, plan, per_input, memory_mib):
    windows = [
        put(tmp_path, "a.tif", 0, 0),
        put(tmp_path, "b.tif", 5, 2000),
        put(tmp_path, "c.tif", 3000, 900),
        put(tmp_path, "d.tif", 3000, 950),
    ]
    found = plan(per_input=per_input, memory_mib=memory_mib)
    (sheet,) = found.sheets
    cores = cores_of(found.panels, sheet)
    expected = touched(sheet, windows)
    assert (cores == expected).all()
    assert_numbered_once(found.panels)
    areas = {panel.cores.window for panel in found.panels}
    assert len(areas) == (3 if memory_mib else expected.any(0).sum())
    if not per_input:
        (target,) = found.targets
        assert target.panels == tuple(found.panels)
        assert target.target.window == Window(top=0, left=0, height=3040, width=2050)
        return
    assert names_of(found.targets) == ["a.tif", "b.tif", "c.tif", "d.tif"]
    assert [each.target.window for each in found.targets] == windows
    for each in found.targets:
        assert (cores_of(each.panels, sheet)[touched(sheet, [each.target.window]) > 0] == 1).all()
        assert all(p.cores.window.intersection(each.target.window).pixels for p in each.panels)


def test_maps_come_in_the_order_in_which_their_last_panel_is_read(tmp_path, plan):
    put(tmp_path, "a.tif", 4000, 0)
    put(tmp_path, "b.tif", 2000, 700)
    put(tmp_path, "c.tif", 0, 3000)
    found = plan(per_input=True)
    assert names_of(found.targets) == ["c.tif", "b.tif", "a.tif"]
    assert [[p.number for p in each.panels] for each in found.targets] == [[0], [1], [2]]
    assert [panel.cores.window.top for panel in found.panels] == [0, 2000, 4000]


@pytest.mark.parametrize("per_input", [False, True])
def test_a_box_is_read_alone(tmp_path, plan, per_input):
    put(tmp_path, "a.tif", 0, 0, 96, 48)
    put(tmp_path, "b.tif", 0, 48, 96, 48)
    put(tmp_path, "c.tif", 96, 0, 96, 96)
    for whole_cores in (False, True):
        found = plan(per_input=per_input, bbox=box(20, 60, 40, 70), whole_cores=whole_cores)
        (sheet,) = found.sheets
        asked = Window(top=16, left=48, height=32, width=32)
        assert (cores_of(found.panels, sheet) == touched(sheet, [asked])).all()
        assert (cores_of(found.panels, sheet, wanted=False) == touched(sheet, [asked])).all()
        windows = {each.target.path.name: each.target.window for each in found.targets}
        exact = Window(top=20, left=60, height=20, width=10)
        own = Window(top=0, left=48, height=96, width=48)
        expected = {"b.tif": own} if per_input else {"map.tif": asked}
        if not whole_cores:
            expected = dict.fromkeys(expected, exact)
        assert windows == expected


def test_a_core_of_which_no_pixel_is_asked_for_is_not_read(tmp_path, plan):
    """The box touches eight more cores, by less than half a pixel."""
    put(tmp_path, "a.tif", 0, 0, 96, 96)
    left, bottom, right, top = box(16, 16, 32, 32)
    around = (left - 0.05, bottom - 0.05, right + 0.05, top + 0.05)
    assert plan(bbox=around).panels[0].cores.window == Window(top=16, left=16, height=16, width=16)
    whole = plan(bbox=around, whole_cores=True).panels[0].cores.window
    assert whole == Window(top=0, left=0, height=48, width=48)


def test_files_that_share_a_core_with_what_is_asked_for_are_mapped(tmp_path, plan):
    """A core is labelled as a whole, also where it reaches into the next file."""
    put(tmp_path, "a.tif", 0, 0, 96, 40)
    put(tmp_path, "b.tif", 0, 40, 96, 40)
    assert names_of(plan(per_input=True, bbox=box(0, 20, 10, 30)).targets) == ["a.tif"]
    both, beside = ["a.tif", "b.tif"], box(0, 35, 10, 38)
    assert names_of(plan(per_input=True, bbox=beside, whole_cores=True).targets) == both
    assert names_of(plan(per_input=True, bbox=beside).targets) == ["a.tif"]
    assert names_of(plan(per_input=True, bbox=box(0, 49, 10, 60)).targets) == ["b.tif"]


@pytest.mark.parametrize("whole_cores", [False, True])
def test_shapes_select_cores_of_their_panels(tmp_path, plan, whole_cores):
    pytest.importorskip("pyogrio")
    put(tmp_path, "a.tif", 0, 0, 96, 96)
    put(tmp_path, "b.tif", 0, 1600, 96, 96)
    put(tmp_path, "c.tif", 1600, 0, 96, 96)
    aoi = write_shapes(
        tmp_path / "aoi.geojson", (2, 2, 14, 14), (50, 34, 62, 62), (2, 1602, 12, 1612)
    )
    found = plan(aoi=str(aoi), memory_mib=0, whole_cores=whole_cores)
    (sheet,) = found.sheets
    expected = touched(
        sheet,
        [
            Window(top=0, left=0, height=16, width=16),
            Window(top=48, left=32, height=16, width=32),
            Window(top=0, left=1600, height=16, width=16),
        ],
    )
    assert (cores_of(found.panels, sheet) == expected).all()
    assert_numbered_once(found.panels)
    rectangles = {panel.cores.window for panel in found.panels}
    assert all(window.bottom <= 64 and window.right <= 1616 for window in rectangles)
    assert sum(window.pixels for window in rectangles) == 64 * 64 + 16 * 16
    exact = Window(top=2, left=2, height=60, width=1610)
    whole = Window(top=0, left=0, height=64, width=1616)
    assert found.targets[0].target.window == (whole if whole_cores else exact)
    apart = plan(aoi=str(aoi), per_input=True, whole_cores=whole_cores)
    assert names_of(apart.targets) == ["a.tif", "b.tif"]


def test_a_file_of_which_shapes_cover_no_pixel_gets_no_map(tmp_path, plan):
    """A core that is read and the window around all shapes reach into it."""
    pytest.importorskip("pyogrio")
    put(tmp_path, "a.tif", 0, 0, 48, 40)
    put(tmp_path, "b.tif", 0, 40, 48, 40)
    put(tmp_path, "c.tif", 48, 0, 48, 80)
    shapes = (2, 2, 14, 38), (70, 60, 80, 70)
    aoi = write_shapes(tmp_path / "aoi.geojson", *shapes)
    maps = plan(per_input=True, aoi=str(aoi)).targets
    assert [(each.target.path.name, each.target.window) for each in maps] == [
        ("a.tif", Window(top=2, left=2, height=46, width=38)),
        ("c.tif", Window(top=48, left=2, height=32, width=68)),
    ]
    whole = plan(per_input=True, aoi=str(aoi), whole_cores=True).targets
    assert names_of(whole) == ["a.tif", "b.tif", "c.tif"]


def test_a_box_within_the_void_between_files_touches_nothing(tmp_path, plan):
    put(tmp_path, "a.tif", 0, 0)
    put(tmp_path, "b.tif", 0, 1000)
    message = r"the box \S+: does not touch the images: check its coordinates"
    for per_input in (False, True):
        with pytest.raises(SourceError, match=message):
            plan(bbox=box(10, 400, 20, 500), per_input=per_input)


@pytest.mark.parametrize("per_input", [False, True])
def test_what_holds_the_centre_of_no_pixel_touches_nothing(tmp_path, plan, per_input):
    put(tmp_path, "a.tif", 0, 0)
    left, bottom, _, top = box(10, 10, 11, 11)
    thin = (left, bottom, left + 0.05, top)
    message = "does not touch the images: check .*that it is larger than a pixel"
    with pytest.raises(SourceError, match=message):
        plan(bbox=thin, per_input=per_input)
    assert plan(bbox=thin, whole_cores=True, per_input=per_input).targets
    pytest.importorskip("pyogrio")
    ring = [[X + 2.04, Y - 2], [X + 2.04, Y - 7], [X + 2.06, Y - 7], [X + 2.04, Y - 2]]
    geometry = json.dumps({"type": "Polygon", "coordinates": [ring]})
    aoi = write_shapes(tmp_path / "aoi.geojson", None)
    aoi.write_text(aoi.read_text().replace('"geometry": null', f'"geometry": {geometry}'))
    with pytest.raises(SourceError, match=message):
        plan(aoi=str(aoi), per_input=per_input)
    assert plan(aoi=str(aoi), whole_cores=True, per_input=per_input).targets


def test_shapes_apart_from_the_images_touch_nothing(tmp_path, plan):
    pytest.importorskip("pyogrio")
    put(tmp_path, "a.tif", 0, 0)
    aoi = write_shapes(tmp_path / "aoi.geojson", (900, 900, 920, 920))
    with pytest.raises(SourceError, match=r"aoi.geojson: does not touch the images: check"):
        plan(aoi=str(aoi))


@pytest.fixture
def dates(tmp_path):
    """Two tiles at two dates, the second date shifted by half a tile, far from them a third."""
    put(tmp_path, "1_west.tif", 0, 0, 48, 48)
    put(tmp_path, "1_east.tif", 0, 48, 48, 48)
    put(tmp_path, "1_far.tif", 2000, 48, 48, 48)
    put(tmp_path, "2_west.tif", 0, 24, 48, 48)
    put(tmp_path, "2_east.tif", 0, 72, 48, 48)


@pytest.mark.usefixtures("dates")
def test_each_sheet_has_panels_and_maps_of_its_own(plan):
    names = ("1_west.tif", "1_east.tif", "1_far.tif", "2_west.tif", "2_east.tif")
    found = plan(*names, per_input=True)
    assert len(found.sheets) == 2
    assert_numbered_once(found.panels)
    for sheet in found.sheets:
        windows = [window for _, window in sheet.delivered]
        assert (cores_of(found.panels, sheet) == touched(sheet, windows)).all()
    for each in found.targets:
        assert each.panels
        assert all(panel.sheet is each.sheet for panel in each.panels)
        assert each.target.path.name in [name.split("/")[-1] for name, _ in each.sheet.delivered]
    last = [max(panel.number for panel in each.panels) for each in found.targets]
    assert last == sorted(last)
    assert sorted(names_of(found.targets)) == sorted(names)


@pytest.mark.usefixtures("dates")
def test_a_box_touches_some_sheets(plan):
    second = plan(per_input=True, bbox=box(2, 105, 12, 115))
    assert names_of(second.targets) == ["2_east.tif"]
    assert [panel.number for panel in second.panels] == [0]
    both = plan(per_input=True, bbox=box(2, 50, 12, 60))
    assert sorted(names_of(both.targets)) == ["1_east.tif", "2_west.tif"]
    assert_numbered_once(both.panels)


@pytest.mark.parametrize("side", [(2, 2, 12, 12), (2, 105, 12, 115), (2, 50, 12, 60)])
@pytest.mark.usefixtures("dates")
def test_what_shapes_lack_is_told_once_whichever_sheets_they_touch(tmp_path, plan, side):
    pytest.importorskip("pyogrio")
    aoi = write_shapes(tmp_path / "aoi.geojson", None, side)
    found = plan(per_input=True, aoi=str(aoi))
    left_out = [line for line in found.told if "without a usable shape left out" in line]
    assert len(left_out) == 1


def test_patches_without_a_place_are_sheets_one_after_the_other(tmp_path, plan):
    sizes = {"a.tif": (40, 50), "b.tif": (20, 90), "c.tif": (16, 16)}
    for name, size in sizes.items():
        put(tmp_path, name, 0, 0, *size, **NOWHERE)
    found = plan(per_input=True, read=ReadOptions(gsd_m=0.2))
    assert len(found.sheets) == len(found.panels) == 3
    assert_numbered_once(found.panels)
    for each, (name, (height, width)) in zip(found.targets, sizes.items(), strict=True):
        assert each.target.path.name == name
        assert each.target.window == Window(top=0, left=0, height=height, width=width)
        assert [panel.cores.window for panel in each.panels] == [each.target.window]


def test_what_opening_found_is_told_first(tmp_path, plan):
    put(tmp_path, "a.tif", 0, 0)
    put(tmp_path, "b.tif", 0, 5)
    (tmp_path / "out" / "map.qml").write_text("a style of somebody else")
    told = plan().told
    assert "cover one another" in told[0]
    assert "map.qml: no style of flair-engine, kept" in told[-1]


def test_styles_that_are_kept_are_told_in_one_line(tmp_path, plan):
    for name in ("a", "b", "c"):
        put(tmp_path, f"{name}.tif", 0, 60 * ord(name))
        (tmp_path / "out" / f"{name}.qml").write_text("a style of somebody else")
    (line,) = plan(per_input=True).told
    assert "a.qml and 2 more: no style of flair-engine, kept" in line


def test_maps_that_stand_are_refused_of_touched_files_alone(tmp_path, plan):
    put(tmp_path, "a.tif", 0, 0)
    put(tmp_path, "b.tif", 0, 64)
    (tmp_path / "out" / "b.tif").write_text("no map")
    with pytest.raises(OutputError, match=r"b\.tif: exists already and is no map"):
        plan(per_input=True)
    assert names_of(plan(per_input=True, bbox=box(0, 0, 9, 9)).targets) == ["a.tif"]


@pytest.mark.parametrize(
    ("tile_px", "sizes", "told"),
    [
        # One tile of 2048 px, or one of 1024, or four of 512: the largest of the cheapest.
        (2048, [(512, 512)], "the raster has 512 x 512 px, .* --tile 1024 computes 4 times less"),
        (1024, [(512, 512)], None),  # four tiles of 512 px are as much
        (1024, [(200, 256)], "the raster has 200 x 256 px, .* --tile 512 computes 4 times less"),
        (2048, [(512, 512), (768, 700)], "the largest raster has 768 x 700 px, .* --tile 1024 "),
        (2048, [(512, 512), (20_000, 20_000)], None),
        (512, [(10, 10)], None),
        (1056, [(10, 10)], None),  # its half is no whole number of steps
    ],
)  # fmt: skip
def test_tiles_that_reach_far_beyond_the_raster_are_told(tile_px, sizes, told):
    rasters = [SimpleNamespace(height=height, width=width) for height, width in sizes]
    said = too_large_tiles(replace(SPEC, tile_px=tile_px, margin_px=128), rasters)
    assert said is None if told is None else re.match(told, said)


def test_too_large_tiles_are_told_before_the_run(plan, tmp_path, monkeypatch):
    monkeypatch.setattr("flair_engine.coverage.too_large_tiles", lambda _, rasters: f"{rasters}")
    put(tmp_path, "a.tif", 0, 0)
    planned = plan()
    assert str([sheet.raster for sheet in planned.sheets]) in planned.told
