"""Intervals against windows slid over positions one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flair_export.rewrite.receptive_field import Kernel, Span, Transposed, Upsampling

spans = st.builds(
    lambda start, size: Span(start, start + size), st.integers(0, 30), st.integers(1, 9)
)


@given(spans, st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(-3, 3))
def test_a_window_reads_from_its_first_to_its_last_tap(span, size, stride, dilation, pad):
    window = Kernel(size=size, stride=stride, dilation=dilation, pad=pad)
    taps = [
        place * stride - pad + tap * dilation
        for place in range(span.start, span.stop)
        for tap in range(size)
    ]
    assert window.reads(span) == Span(min(taps), max(taps) + 1)


def test_a_pixelwise_operation_reads_what_it_makes():
    assert Kernel().reads(Span(3, 8)) == Span(3, 8)


@given(spans, st.integers(1, 4))
def test_repeated_pixels_are_read_where_they_come_from(span, factor):
    read = Upsampling(factor, linear=False).reads(span)
    assert read == Span(span.start // factor, (span.stop - 1) // factor + 1)
    made = Upsampling(factor, linear=False).makes(read)
    assert made.start <= span.start < span.stop <= made.stop


@given(spans, st.integers(1, 4))
def test_blended_pixels_read_the_two_nearest(span, factor):
    def left(place):
        return ((2 * place + 1) - factor) // (2 * factor)

    expected = Span(left(span.start), left(span.stop - 1) + 2)
    assert Upsampling(factor, linear=True).reads(span) == expected


@given(spans, st.integers(1, 5), st.integers(1, 3), st.integers(0, 3))
def test_a_transposed_convolution_reads_all_that_is_spread_over_its_outputs(
    span, kernel, stride, pad
):
    transposed = Transposed(kernel=kernel, stride=stride, pad=pad)
    read = transposed.reads(span)
    spread = {
        source
        for source in range(-20, 60)
        for tap in range(kernel)
        if span.start <= source * stride - pad + tap < span.stop
    }
    assert spread <= set(range(read.start, read.stop))
    before, after = transposed.cuts(span, read)
    assert (read.size - 1) * stride + kernel - before - after == span.size


def test_spans_join_and_are_held_inside():
    assert Span(3, 5) | Span(8, 9) == Span(3, 9)
    assert Span(-2, 12).within(10) == Span(0, 10)
    assert Span(2, 12).size == 10
