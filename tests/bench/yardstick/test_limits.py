"""Limits are measured, and the higher of two counts."""

from dataclasses import replace

from doubles.figures import throughput

from flair_bench.yardstick import limits


def test_limits_are_measured(image_file, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "EDGE", {"cpu": 64, "cuda": 64})
    monkeypatch.setattr(limits, "COPY_BYTES", 2**16)
    found = limits.measure_limits(image_file[0], tmp_path)
    rates = (found.memory_copy_gb_s, found.decode_mpx_s, found.write_mpx_s)
    assert min(*found.matmul_gflops.values(), *rates) > 0
    assert (found.to_device_gb_s is None) == (found.device == "cpu")


def test_the_higher_counts():
    first = throughput().limits
    second = replace(first, matmul_gflops={"fp32": 160.0}, decode_mpx_s=30.0)
    assert limits.higher(first, second) == replace(first, matmul_gflops={"fp32": 160.0})
