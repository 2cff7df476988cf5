"""`python -m loadtest`: the load generator without the rest of the command line."""

from loadtest.cli import app

if __name__ == "__main__":
    app(prog_name="loadtest")
