"""Small systems on the sphere, a simulator of their SGD, and the thermodynamics that is known exactly.

Names are loaded when first used: the systems need no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
