"""``python -m rigwise``."""

from rigwise.cli.main import main

if __name__ == "__main__":
    main()
