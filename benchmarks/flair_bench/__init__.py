"""Benchmarks a sceptical reader can repeat: parity, accuracy, throughput, geometry, I/O.

Needs the `bench` and `export` extras to run; importing this package loads neither. May import
flair_export and flair_engine, which never import this package. On the floor stand errors, figures
(what a measurement says), processes, machine, provenance and results (files of figures). `data`
and `yardstick` rest on it; `measure` on these; `show` on the floor alone. `suite` and `cli` stand
on top.
"""
