"""Images as tensors on one device."""

from pythermo.data.fetch import fetch
from pythermo.data.images import Images, load

__all__ = ["Images", "fetch", "load"]
