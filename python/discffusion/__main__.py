"""``python -m discffusion`` is the command ``discffusion``."""

from discffusion.cli import main

if __name__ == "__main__":
    main()
