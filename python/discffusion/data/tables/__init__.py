"""Tables of images and texts: files of rows with columns that the user names, and datasets of the library datasets."""
