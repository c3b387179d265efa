"""Whatever a power cut, a bad disk or an editor does to a file, drawn by hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

KINDS = ("zeroed", "cut", "grown", "inserted", "removed", "flipped", "line replaced", "doubled")


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Return `data` with one or two damages of any kind anywhere."""
    for _ in range(draw(st.integers(1, 2))):
        data = _once(draw, data)
    return data


def _once(draw: st.DrawFn, data: bytes) -> bytes:
    kind = draw(st.sampled_from(KINDS))
    start = draw(st.integers(0, len(data)))
    stop = min(len(data), start + draw(st.sampled_from([1, 2, 7, 60, 400, 4096, len(data)])))
    garbage = draw(st.binary(min_size=1, max_size=60))
    if kind == "zeroed":
        return data[:start] + bytes(stop - start) + data[stop:]
    if kind == "cut":
        return data[:start]
    if kind == "grown":
        return data + draw(st.sampled_from([garbage, bytes(5000), data[start:stop], b"{}\n"]))
    if kind == "inserted":
        return data[:start] + garbage + data[start:]
    if kind == "removed":
        return data[:start] + data[stop:]
    if kind == "flipped":
        return (
            data[:start]
            + bytes(b ^ garbage[0] for b in data[start : start + 1])
            + data[start + 1 :]
        )
    if kind == "doubled":
        return data[:stop] + data[start:]
    lines = data.split(b"\n")
    number = draw(st.integers(0, len(lines) - 1))
    lines[number] = draw(st.sampled_from([b"", b"{}", b'{"panel": 0}', b"null", lines[0], garbage]))
    return b"\n".join(lines)
