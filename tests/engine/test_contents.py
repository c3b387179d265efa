import hashlib

import pytest

from flair_engine.contents import CHUNK_BYTES, digest_of


@pytest.mark.parametrize("size", [0, 5, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_a_digest_is_that_of_the_whole_file(tmp_path, size):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    (tmp_path / "file").write_bytes(content)
    digest = digest_of(str(tmp_path / "file"), lambda: False)
    assert digest == hashlib.sha256(content).hexdigest()


def test_there_is_none_of_what_cannot_be_read_or_is_not_waited_for(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert digest_of(str(tmp_path / "file"), lambda: True) is None
    assert digest_of(str(tmp_path / "absent"), lambda: False) is None
    assert digest_of(str(tmp_path), lambda: False) is None
