"""`python -m broker`: the command line without an installation."""

from broker.init import main

if __name__ == "__main__":
    main()
