from .download import fetch as fetch
from .images import Images as Images
from .images import load as load

__all__ = ["Images", "fetch", "load"]
