"""Chains on the sphere: to the bit up to D = 4, to rounding beyond."""

import numpy as np
from place import Place, within

from pythermo import sphere

KINDS = {
    "projection": {"retraction": "projection"},
    "exponential": {"retraction": "exponential"},
    "fixed-lr": {"protocol": "fixed-lr", "weight_decay": 0.1},
    "fixed-elr": {"protocol": "fixed-elr", "weight_decay": 0.1},
}

# 20 steps, each rounded a few times, where none amplifies what came before.
LIMIT = {"float32": 1e-5, "float64": 1e-13}

DIMS = {"full": (2, 3, 4, 5, 33, 1003, 4001), "small": (2, 3, 4, 5, 33, 1003), "least": (3, 33)}


def quadratics(samples: int, dim: int) -> sphere.Quadratics:
    rows = np.random.default_rng(dim).normal(size=(samples, dim))
    return sphere.Quadratics(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def run(place: Place) -> None:
    for dim in DIMS[place.sizes]:
        for dtype in LIMIT:
            for name, kind in KINDS.items():
                place.check(
                    f"sphere, D = {dim}, {dtype}, {name}",
                    lambda dim=dim, dtype=dtype, kind=kind: chains(place, dim, dtype, kind),
                )


def chains(place: Place, dim: int, dtype: str, kind: dict[str, object]) -> str:
    systems = (
        (quadratics(5, dim), {"batch_size": 3}),
        (quadratics(7, dim), {"batch_size": 3, "sampling": "epochs"}),
        (sphere.IsotropicNoise(dim, 0.6 / dim**0.5), {}),
    )
    worst = 0.0
    for system, batch in systems:

        def simulate(device: str, system=system, batch=batch):
            return sphere.simulate(
                system,
                [0.01, 0.1],
                20,
                replicas=67 if dim <= 4 else 3,
                dtype=dtype,
                device=device,
                measure_at=[0, 1, 9, 20],
                window=4,
                stride=2,
                seed=5,
                **batch,
                **kind,
            )

        expected = simulate("cpu")
        with place.in_place_of_the_cpu():
            found = simulate(place.device)
        if dim <= 4:
            assert expected.identical(found), f"other bits than the CPU's: {system}"
        worst = max(worst, float(np.abs(found["final_weights"] - expected["final_weights"]).max()))
    return within(worst, LIMIT[dtype])
