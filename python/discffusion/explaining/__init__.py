"""The old name of :mod:`discffusion.explanation`, kept for one release."""
