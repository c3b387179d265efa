"""Verdicts and manifests as people are shown them."""

from __future__ import annotations

from dataclasses import replace

from doubles.tiny_model import SPEC

from flair_export.convert.deepness import DeepnessVerdict
from flair_export.convert.fp16 import Fp16Verdict
from flair_export.convert.int8 import Int8Verdict
from flair_export.proof.compare import EqualLabels
from flair_export.proof.verify import Verdict
from flair_export.show import (
    print_deepness,
    print_fp16,
    print_int8,
    print_models,
    print_spec,
    print_verdict,
)

NEARLY = EqualLabels(name="noise", pixels=10_000_000, different=1, lower=1, note="2 tiles")
WATER = EqualLabels(name="water", pixels=0, different=0, lower=0)


def test_a_share_is_cut_and_not_rounded(capsys):
    print_verdict(
        Verdict(
            sources=(NEARLY,),
            classes=(WATER,),
            images=(),
            logit_difference=0.00123,
            count_differences={"confidence": 1},
        )
    )
    shown = capsys.readouterr().out
    assert "noise (2 tiles)" in shown
    assert "10,000,000" in shown
    assert "99.9999" in shown
    assert "100.0000" not in shown
    assert "largest logit difference 0.00123" in shown
    assert "largest confidence difference 1 of 255" in shown


def test_fp16_names_the_largest_layers_and_those_kept(capsys):
    largest = tuple((f"layer{n}", 1000.0 - n) for n in range(9))
    print_fp16(
        Fp16Verdict(sources=(NEARLY,), classes=(), images=(), largest=largest, kept_fp32=("up",))
    )
    shown = capsys.readouterr().out
    assert "1,000.0  layer0" in shown
    assert "layer4" in shown
    assert "layer5" not in shown
    assert "layers kept in FP32 between Casts: up" in shown


def test_int8_names_what_stays_fp32(capsys):
    verdict = Int8Verdict(
        sources=(NEARLY,),
        classes=(),
        images=(),
        measured="3 of 9 tiles",
        int8=("a", "b"),
        kept_fp32=("c",),
    )
    print_int8(verdict)
    shown = capsys.readouterr().out
    assert "ranges measured on 3 of 9 tiles" in shown
    assert "2 of 3 convolutions compute in INT8, in FP32 stay:\n  c\n" in shown


def test_a_manifest_with_and_without_agreement(capsys):
    print_spec(SPEC)
    shown = capsys.readouterr().out
    assert "labels of FP32" not in shown
    assert "tile             32 px, margin 8 px, keeps 16 px" in shown
    assert shown.count("inactive") == 1
    print_spec(replace(SPEC, precision="int8", agreement_fp32=0.9951))
    assert "labels of FP32   99.51% on the images it was made with" in capsys.readouterr().out


MARKUP = "[/] [red]a[/red] :smile: \\"


def test_names_are_no_markup_and_no_commands_of_the_terminal(capsys):
    first, *others = SPEC.classes
    classes = (replace(first, name=MARKUP), *others)
    print_spec(replace(SPEC, name=MARKUP, bands=(MARKUP, "two"), classes=classes))
    printed = capsys.readouterr().out
    assert printed.count(MARKUP) == 3
    strange = replace(NEARLY, name=MARKUP, note="\x1b[2J.tif\n")
    print_fp16(
        Fp16Verdict(
            sources=(strange,),
            classes=(),
            images=(),
            largest=(("\x1b", 1.0),),
            kept_fp32=("\n[/]",),
        )
    )
    print_int8(
        Int8Verdict(
            sources=(),
            classes=(strange,),
            images=(),
            measured="\x07",
            int8=(),
            kept_fp32=("\x1b[1m",),
        )
    )
    counts = {MARKUP: 1}
    print_verdict(
        Verdict(sources=(), classes=(), images=(), logit_difference=0.0, count_differences=counts)
    )
    printed = capsys.readouterr().out
    assert printed.count(MARKUP) == 3
    assert r"\x1b[2J.tif\n" in printed
    assert not {"\x1b", "\x07"} & set(printed)


def test_models_are_listed_with_their_scores(capsys):
    print_models()
    shown = capsys.readouterr().out
    assert "76.4" in shown
    assert "by analogy" in shown


def test_a_file_for_deepness_is_compared_with_fp32(capsys):
    print_deepness(
        DeepnessVerdict(sources=(NEARLY,), classes=(), images=(), share_difference=1.86e-6)
    )
    shown = capsys.readouterr().out
    assert "Labels in the Deepness plugin against FP32" in shown
    assert "largest probability difference 1.9e-06" in shown
