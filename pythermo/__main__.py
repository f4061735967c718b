"""`python -m pythermo`: the command line."""

from pythermo.cli import app

app(prog_name="pythermo")
