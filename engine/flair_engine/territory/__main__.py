"""`python -m flair_engine.territory`, and the script flair-job: light until signals are handled."""

from flair_engine.starting import start


def main() -> None:
    """Entry point of flair-job."""
    start("flair_engine.territory.cli", "flair-job")


if __name__ == "__main__":
    main()
