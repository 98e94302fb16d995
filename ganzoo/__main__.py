"""`python -m ganzoo`."""

from ganzoo.cli.main import main

if __name__ == "__main__":
    main()
