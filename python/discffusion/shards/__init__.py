"""Many shards of images and texts, scored by any number of workers that may die and be started again."""

from __future__ import annotations

from discffusion._workers import share
from discffusion.shards.layout import Layout
from discffusion.shards.run import score_shards, summarize
from discffusion.shards.summary import Summary

__all__ = ["Layout", "Summary", "score_shards", "share", "summarize"]
