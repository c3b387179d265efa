"""`python -m flair_engine.post`, and the script flair-post: light until signals are handled."""

from flair_engine.starting import start


def main() -> None:
    """Entry point of flair-post."""
    start("flair_engine.post.cli", "flair-post")


if __name__ == "__main__":
    main()
