"""A territory: one map of any number of files, made in parts by any number of processes."""
