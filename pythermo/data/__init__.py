"""Images as tensors on one device. Names are loaded when first used: fetching files needs no torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
