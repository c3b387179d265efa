"""`python -m flair_engine`: flair-run where scripts are not on the path."""

from flair_engine.cli import main

main()
