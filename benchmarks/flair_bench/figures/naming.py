"""Names of what is measured: what a measurement and its tables say alike."""


def with_int8(name: str, precision: str) -> str:
    """Return a name that says INT8 of a model that is; engines name the other precisions."""
    return f"{name} int8" if precision == "int8" else name
