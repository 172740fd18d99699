"""Pictures, one kind a file; matplotlib is imported where one is drawn."""
