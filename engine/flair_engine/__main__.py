"""`python -m flair_engine`, and the script flair-run: light until signals are handled."""

from flair_engine.starting import start


def main() -> None:
    """Entry point of flair-run."""
    start("flair_engine.cli", "flair-run")


if __name__ == "__main__":
    main()
