"""`python -m flair_export`, and the script flair-export: light until signals are handled."""

from flair_engine.starting import start


def main() -> None:
    """Entry point of flair-export."""
    start("flair_export.cli", "flair-export")


if __name__ == "__main__":
    main()
