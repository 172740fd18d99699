"""Where a model runs and in what type, for models that torch itself runs."""

from __future__ import annotations

from typing import Any

from discffusion._arguments import torch_name
from discffusion._extras import need
from discffusion.errors import DeviceError

__all__ = ["place"]

_DTYPES = ("float32", "float16", "bfloat16")


def place(device: Any = "auto", dtype: Any = "auto") -> tuple[Any, Any]:
    """The torch device and dtype that the names of :class:`discffusion.Scorer` mean.

    Raises:
        DeviceError: a name is unknown, or there is no such device.
    """
    torch = need("torch", "baselines")
    where, kind = torch_name(device, "device"), torch_name(dtype, "dtype").removeprefix("torch.")
    there = torch.cuda.is_available()
    if where == "auto":
        where = "cuda" if there else "cpu"
    try:
        chosen = torch.device(where)
    except RuntimeError:
        raise DeviceError(f"there is no device {where!r}; expected auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if there else 0
        if count == 0:
            raise DeviceError(f"device is {where!r}, and torch finds no CUDA device; use device='cpu'")
        chosen = torch.device("cuda", torch.cuda.current_device() if chosen.index is None else chosen.index)
        if chosen.index >= count:
            raise DeviceError(f"device is {where!r}, and torch finds {count} CUDA devices")
    if kind == "auto":
        kind = "float16" if chosen.type == "cuda" else "float32"
    if kind not in _DTYPES:
        raise DeviceError(f"dtype is {kind!r}; expected auto, {', '.join(_DTYPES)}")
    return chosen, getattr(torch, kind)
