"""Archives: tar files, shards of WebDataset, and pickles of plain data, read without running code."""
