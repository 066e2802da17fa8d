"""`python -m jepa3d` is the command `jepa3d`."""

from jepa3d.cli import main

if __name__ == "__main__":
    main()
