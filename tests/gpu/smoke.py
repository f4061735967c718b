"""Each CUDA kernel once, at its edges, against the CPU's kernels or extended precision: a line per check.

python tests/gpu/smoke.py [--fake] [--small | --least] [step] [gradient_sums] [batch_norm] [knn] [sphere]
    [lanes] [training]
"""

import argparse
import sys

import numpy as np
import smoke_batch_norm
import smoke_gradient_sums
import smoke_knn
import smoke_lanes
import smoke_sphere
import smoke_step
import smoke_training
import torch
from place import Place

from pythermo import _core

FAMILIES = {
    "step": smoke_step.run,
    "gradient_sums": smoke_gradient_sums.run,
    "batch_norm": smoke_batch_norm.run,
    "knn": smoke_knn.run,
    "sphere": smoke_sphere.run,
    "lanes": smoke_lanes.run,
    "training": smoke_training.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", help=f"{', '.join(FAMILIES)}; all if none is named")
    parser.add_argument("--fake", action="store_true", help="the emulation in the device's place")
    sizes = parser.add_mutually_exclusive_group()
    for name in ("small", "least"):
        sizes.add_argument(f"--{name}", dest="sizes", action="store_const", const=name, default="full")
    chosen = parser.parse_args()
    print(
        torch.__version__,
        torch.version.cuda,
        _core.cuda_description(),
        np.__version__,
        sys.version.split()[0],
    )
    place = Place(chosen.fake, chosen.sizes)
    for name in chosen.families or FAMILIES:
        FAMILIES[name](place)
    print(f"{place.failed} failed")
    sys.exit(1 if place.failed else 0)


if __name__ == "__main__":
    main()
