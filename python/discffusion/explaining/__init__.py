"""What an :class:`~discffusion.explanation.Explanation` is made of: words, places on the image, differences, files."""
