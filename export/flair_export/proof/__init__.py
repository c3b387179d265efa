"""Proofs that a file gives the labels it has to: samples, comparisons, verdicts."""
