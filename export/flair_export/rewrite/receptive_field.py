"""Pixels of its input that an operation reads, along one axis: pure arithmetic on intervals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Pixels start..stop-1 along one axis of a tensor."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.stop - self.start

    def __or__(self, other: Span) -> Span:
        """Return the smallest span that holds both."""
        return Span(min(self.start, other.start), max(self.stop, other.stop))

    def within(self, size: int) -> Span:
        """Return the part inside 0..size-1."""
        return Span(max(self.start, 0), min(self.stop, size))


@dataclass(frozen=True, slots=True)
class Kernel:
    """A convolution or pooling; with the defaults, an operation on each pixel by itself."""

    size: int = 1
    """Pixels read for one output, as far apart as `dilation`."""
    stride: int = 1
    dilation: int = 1
    pad: int = 0
    """Pixels read before the first; a Slice that starts at pixel s is a pad of -s."""

    def reads(self, span: Span) -> Span:
        """Return the input pixels that outputs `span` read, padding included."""
        first = span.start * self.stride - self.pad
        last = (span.stop - 1) * self.stride - self.pad + (self.size - 1) * self.dilation
        return Span(first, last + 1)


@dataclass(frozen=True, slots=True)
class Upsampling:
    """An enlargement by a whole factor; beyond the edge the edge is repeated."""

    factor: int
    linear: bool
    """Blend the two nearest pixels (their centres aligned); else repeat each."""

    def reads(self, span: Span) -> Span:
        """Return the input pixels that outputs `span` read, beyond the edge too."""
        if not self.linear:
            return Span(span.start // self.factor, -(-span.stop // self.factor))
        return Span(self._left_of(span.start), self._left_of(span.stop - 1) + 2)

    def makes(self, span: Span) -> Span:
        """Return the outputs that come of inputs `span`."""
        return Span(span.start * self.factor, span.stop * self.factor)

    def _left_of(self, x: int) -> int:
        """Return the floor of (x + 1/2) / factor - 1/2."""
        return (2 * x + 1 - self.factor) // (2 * self.factor)


@dataclass(frozen=True, slots=True)
class Transposed:
    """A transposed convolution: input pixel i is spread over outputs from i * stride - pad."""

    kernel: int
    stride: int
    pad: int
    """Outputs cut off before the first."""

    def reads(self, span: Span) -> Span:
        """Return the input pixels that outputs `span` read, beyond the edge too."""
        first = -((self.kernel - 1 - self.pad - span.start) // self.stride)
        return Span(first, (span.stop - 1 + self.pad) // self.stride + 1)

    def cuts(self, span: Span, part: Span) -> tuple[int, int]:
        """Return what is cut off before and after to make outputs `span` of inputs `part`."""
        before = span.start + self.pad - part.start * self.stride
        everything = (part.size - 1) * self.stride + self.kernel
        return before, everything - before - span.size
