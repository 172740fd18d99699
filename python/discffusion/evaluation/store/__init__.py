"""The resumable store of an evaluation's rows: written while they are made, read again, shared by processes."""
