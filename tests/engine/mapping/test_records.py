import json
import zlib

import numpy as np
import pytest

from flair_engine.mapping.records import Entry, fields_of, line_of, strip_before, strip_record
from flair_engine.mapping.run_lengths import unpack

STRIP_BHW = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) // 5


def test_a_record_holds_the_strip():
    entry, line, packed = strip_record(3, 7, "labels", STRIP_BHW, [("a.tif", 512, 0)])
    assert (entry.panel, entry.i, entry.name, entry.shape) == (3, 7, "labels", (2, 3, 4))
    assert (entry.length, entry.crc32) == (len(packed), zlib.crc32(packed))
    assert entry.skipped == (("a.tif", 512, 0),)
    assert (unpack(packed, entry.shape) == STRIP_BHW).all()
    assert Entry.of(fields_of(line)) == entry


def test_a_line_is_json_and_its_checksum():
    text, crc32 = line_of({"dropped": [[0, 3]]}).rsplit(b" ", 1)
    assert json.loads(text) == {"dropped": [[0, 3]]}
    assert crc32 == b"%08x\n" % zlib.crc32(text)


def test_a_line_of_which_a_byte_differs_says_nothing():
    line = line_of({"panel": 1, "name": "labels"})
    assert fields_of(line) == {"panel": 1, "name": "labels"}
    for at in range(len(line)):
        for flipped in (1, 128):
            other = bytearray(line)
            other[at] ^= flipped
            assert fields_of(bytes(other)) is None, at
    assert fields_of(line[:-1]) is None
    assert fields_of(b"") is None


@pytest.mark.parametrize("text", [b"[]", b"3", b"{", b"\xff", b"[" * 10_000])
def test_what_is_no_object_says_nothing(text):
    assert fields_of(b"%b %08x\n" % (text, zlib.crc32(text))) is None


def test_a_strip_of_the_layouts_before_is_known():
    assert strip_before(b'{"panel": 0, "length": 5}\n') == {"panel": 0, "length": 5}
    for other in (b"garbage", b'{"panel": 0}', b"[]"):
        assert strip_before(other) is None
