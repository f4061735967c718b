"""The thermodynamics of neural-network training: U, S and T of SGD on the sphere.

Names are loaded when first used: ``import pythermo`` itself needs neither torch nor matplotlib.
"""

from importlib.metadata import version
from pkgutil import extend_path

import lazy_loader

# From the root of a checkout these sources are found first, and they carry no compiled module: with
# this line the installed one serves them.
__path__ = extend_path(__path__, __name__)

__version__ = version("pythermo")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
