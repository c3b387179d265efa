"""Stand-ins and small models that tests share: `from doubles.x import y`."""
