"""`python -m millstream.cli` is the same as `millstream`."""

from millstream.cli import main

if __name__ == "__main__":
    main()
