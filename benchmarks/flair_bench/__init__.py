"""Benchmarks a sceptical reader can repeat: parity, accuracy, throughput, geometry, I/O.

Needs the `bench` and `export` extras to run; importing this package loads neither. May import
flair_export and flair_engine, which never import this package. Modules depend on one another in
this order only: errors, results, processes, rasters, engines, networks, roofline, limits,
reference; scores, dataset, accuracy; parity; disk; network_speed, geometry, throughput; tables;
plots, recipes, report; suite; cli.
"""
