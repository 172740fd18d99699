"""The columns of a file of rows."""

from __future__ import annotations

__all__ = ["COLUMNS"]

#: the columns of a file of rows and their types, as :func:`discffusion._parquet.write` takes them
COLUMNS = {
    "key": "string",
    "dataset": "string",
    "image_index": "int32",
    "text_index": "int32",
    "match": "bool_",
    "group": "string",
    "image_ref": "string",
    "image_sha256": "string",
    "text": "string",
    "score": "float64",
    "score_version": "string",
    "model": "string",
    "fingerprint": "string",
    "revision": "string",
    "deltas": "string",
    "dtype": "string",
    "seed": "int64",
    "n_noise": "int32",
    "timesteps": "float64[]",
    "preprocess_version": "string",
    "n_tokens": "int32",
    "truncated": "bool_",
    "device": "string",
    "versions": "string",
    "seconds": "float64",
    "run": "string",
}
