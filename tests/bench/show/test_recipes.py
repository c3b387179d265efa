"""Recipes fit their machines, and start from a clone."""

import pytest
from doubles.figures import A100, CPU

from flair_bench.show.recipes import RECIPES
from flair_bench.yardstick.roofline import PEAKS


@pytest.mark.parametrize(
    ("machine", "kind"), [(A100, "A100"), (CPU, "laptop or server without a GPU")]
)
def test_a_machine_is_of_one_kind(machine, kind):
    assert [recipe.machine for recipe in RECIPES if recipe.fits(machine)] == [kind]
    assert [recipe.machine for recipe in RECIPES if recipe.fits_any([machine])] == [kind]


def test_every_published_peak_bounds_one_kind_of_machine():
    assert sorted(p for recipe in RECIPES for p in recipe.peaks) == sorted(p.name for p in PEAKS)


def test_recipes_install_from_a_clone_and_run_the_suite():
    for recipe in RECIPES:
        assert recipe.command.startswith("pip install "), recipe
        assert " '.[" in recipe.install, recipe
        assert " && flair-bench suite " in recipe.command
