"""`python -m flair_export`: flair-export where scripts are not on the path."""

from flair_export.cli import main

main()
