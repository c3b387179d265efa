"""`python -m flair_bench`: flair-bench where scripts are not on the path."""

from flair_bench.cli import main

main()
