"""Where a score comes from: maps of the words, and what adds up to the score."""

from __future__ import annotations

from discffusion.explanation.compute import explain
from discffusion.explanation.difference import Difference
from discffusion.explanation.explanation import DEFAULT_NORMALISE, Explanation
from discffusion.explanation.words import Token, Word

__all__ = ["DEFAULT_NORMALISE", "Difference", "Explanation", "Token", "Word", "explain"]
