"""A page in the browser: scores, ranking and word maps of an image and several texts (``discffusion demo``).

It is served from this machine, to this machine unless told otherwise, and asks nothing of any other.
"""

from __future__ import annotations

from discffusion.demo.desk import Answer, Desk, Limits
from discffusion.demo.serve import serve

__all__ = ["Answer", "Desk", "Limits", "serve"]
