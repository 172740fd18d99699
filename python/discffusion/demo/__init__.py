"""A page in the browser: scores, ranking and word maps of an image and several texts (``discffusion demo``).

It is served from this machine, to this machine unless told otherwise, and asks nothing of any other.
"""

from __future__ import annotations

from discffusion._deprecated import renamed
from discffusion.demo.serve import serve
from discffusion.demo.service import DemoService, Limits, RankingResult

__all__ = ["DemoService", "Limits", "RankingResult", "serve"]

__getattr__ = renamed(__name__, {"Answer": "RankingResult", "Desk": "DemoService"})
