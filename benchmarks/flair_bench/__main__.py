"""`python -m flair_bench`, and the script flair-bench: light until signals are handled."""

from flair_engine.starting import start


def main() -> None:
    """Entry point of flair-bench."""
    start("flair_bench.cli", "flair-bench")


if __name__ == "__main__":
    main()
