"""`python -m serve.cli`."""

from serve.cli import main

main()
