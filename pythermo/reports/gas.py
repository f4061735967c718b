"""What a sweep over two axes found, for people: its states, and how they compare with an ideal gas."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pythermo.analysis.setup import Setup
from pythermo.analysis.stationary import second_axis
from pythermo.config.schema import RunConfig
from pythermo.reports.headline import advice_on_lost_members, advice_on_progress
from pythermo.reports.sections import Advice, Fact, Section, Table

# arXiv 2511.07308, in units of (D - 1)/2: slope of S at lr = weight decay = 1, largest error on the grid.
PUBLISHED_MAXWELL = {
    "fixed-elr": {
        "ConvNet(8) CIFAR-10": (-1.128, 0.065),
        "ConvNet(16) CIFAR-100": (-0.930, 0.040),
        "ResNet-18(4) CIFAR-10": (-1.029, 0.025),
        "ResNet-18(4) CIFAR-100": (-1.022, 0.019),
    },
    "fixed-lr": {
        "ConvNet(8) CIFAR-10": (0.989, 0.176),
        "ConvNet(16) CIFAR-100": (0.659, 0.233),
        "ResNet-18(4) CIFAR-10": (0.993, 0.030),
        "ResNet-18(4) CIFAR-100": (1.075, 0.056),
    },
}
_PROTOCOLS = {
    "sphere": "projected SGD on spheres",
    "fixed-lr": "SGD with weight decay at fixed learning rates",
    "fixed-elr": "SGD with weight decay at fixed effective learning rates",
}
_SYMBOLS = {"weight_decay": "λ", "radius": "r"}

# A drift is seen if one that is not there would be found so large less often.
_SEEN = 0.05
HOW_TO_READ = (
    "U: full training loss; S: entropy of the last window, (D - 1) log r included, up to a constant common "
    "to a sweep; T of the noise, by the protocol; p: weight decay, or on spheres what brings back the norm; "
    "V = r²/2. Intervals are of 90 % over seeds. Growth over decay of the norm, in moments of every step, "
    "is 1 in a stationary state. Z = 2pV/((D - 1)T), by T at the measured norm, is 1 in an ideal gas and "
    "1 + SNR² in theory. On spheres this is an identity, and so is their Maxwell relation. Any S of the "
    "directions passes the relation of a fixed effective learning rate once r falls as the root of λ: what "
    "both do is shown apart. Least Gibbs energies presume dU = T dS, which holds in a range of learning "
    "rates."
)


def gas_headline(setup: Setup) -> Section:
    """Return the section that says what a sweep was, what it found, and what to be careful with."""
    found = setup.gas
    settled = found.cells["settled"]
    facts = [*_norms_fact(found.cells, settled), *_jump_fact(found.cells)]
    if not isinstance(found.maxwell, str):
        relation = found.maxwell.attrs["relation"]
        facts.append(
            Fact(
                f"{relation}, in (D - 1)/2",
                f"{float(found.maxwell['slope']):.3f}",
                f"{_interval(found.maxwell, 'slope')}; theory {found.maxwell.attrs['theory']:g}",
            )
        )
    if not isinstance(found.gibbs, str):
        what = "free" if "radius" in found.cells.dims else "Gibbs"
        facts.append(
            Fact(
                f"least {what} energy off by",
                f"{float(found.gibbs['mean_off']):.2f} cells",
                f"mean over cells; {_interval(found.gibbs, 'mean_off')}",
            )
        )
    facts.append(_drifts_fact(found.stationarity))
    advice = [
        *advice_on_progress(setup.progress), *_advice_on_seeds(setup), *advice_on_lost_members(setup),
        *_advice_on_relaxation(setup), *_advice_on_norms(found.cells, settled),
    ]  # fmt: skip
    return Section(setup.title, [_described(setup)], facts=facts, advice=advice)


def gas_sections(setup: Setup) -> list[Section]:
    """Return the tables of a sweep: all cells, and laws beside theory and what was published."""
    return [
        Section(f"{setup.title}: states", table=_states_table(setup.gas.cells)),
        Section(f"{setup.title}: laws", table=_laws_table(setup)),
    ]


def _described(setup: Setup) -> str:
    run = RunConfig.from_toml(setup.dataset.attrs["config"])
    sizes = setup.dataset.sizes
    other = second_axis(setup.dataset)
    values = setup.dataset[other].values
    named = ("radius", "radii") if other == "radius" else ("weight decay", "weight decays")
    many = f"{named[0]} {values[0]:.3g}"
    if len(values) > 1:
        many = f"{sizes[other]} {named[1]} from {values.min():.3g} to {values.max():.3g}"
    rates, training = setup.dataset["lr"].values, run.training
    text = (
        f"{run.model.title}, D = {setup.dataset.attrs['weights']} scale-invariant weights, on "
        f"{run.data.name}; {_PROTOCOLS[training.protocol]} for {training.iterations} iterations at "
        f"{sizes['lr']} learning rates from {rates.min():.3g} to {rates.max():.3g} and "
        f"{many}, {sizes['seed']} seed{'s' if sizes['seed'] > 1 else ''} each; batches of "
        f"{training.batch_size}, engine {training.engine} on {training.device}."
    )
    description = setup.preset.description
    return f"{description}. {text}" if description else text


def _interval(values: xr.Dataset, name: str) -> str:
    low, high = values[f"{name}_interval"].values
    if not np.isfinite([low, high]).all():
        return "no interval"
    return f"[{low:.3g}, {high:.3g}]"


def _norms_fact(cells: xr.Dataset, settled: xr.DataArray) -> list[Fact]:
    """Say how far the laws of the norm hold where it has settled; on spheres growth is an identity."""
    label, count = "growth of the norm over its decay", int(settled.sum())
    if count == 0:
        return [Fact(label, "settled in no cell")]
    known = cells.where(settled)
    off = 100.0 * float(np.abs(known["growth_over_decay"] - 1.0).max())
    z, theory = known["compressibility"], 1.0 + known["squared_snr"]
    apart = 100.0 * float(np.abs(z / theory - 1.0).max())
    where = f"in {count} of {settled.size} cells"
    span, of_z = f"{float(z.min()):.2f} to {float(z.max()):.2f}", f"within {apart:.0f} % of 1 + SNR² {where}"
    found = Fact("compressibility Z", span, of_z)
    if cells.attrs["protocol"] == "sphere":
        return [found]
    return [Fact(label, f"within {off:.2g} %", f"of 1, in moments of every step, {where}"), found]


def _jump_fact(cells: xr.Dataset) -> list[Fact]:
    """Say where a network that converges goes over into one whose norm has settled: its jump."""
    other = second_axis(cells)
    for value in cells[other].values:
        one = cells.sel({other: value}).sortby("lr")
        one = one.isel(lr=one["growth_over_decay"].notnull().values)
        which, falls = one["settled"].values, one["growth_over_decay"].values < 1.0
        if which.any() and (falls & ~which)[: which.argmax()].all() and not which[0]:
            place = int(which.argmax())
            before, after = one.isel(lr=place - 1), one.isel(lr=place)
            return [
                Fact(
                    f"jump at {_SYMBOLS[other]} = {value:.3g}",
                    f"from η = {float(before['lr']):.3g} to {float(after['lr']):.3g}",
                    f"U goes from {float(before['energy']):.2g} to {float(after['energy']):.2g}, r from "
                    f"{float(before['norm']):.2g} to {float(after['norm']):.3g}",
                )
            ]
    return []


def _advice_on_norms(cells: xr.Dataset, settled: xr.DataArray) -> Sequence[Advice]:
    unsettled = ~settled & cells["growth_over_decay"].notnull()
    lacking = int(unsettled.sum())
    if lacking == 0:
        return []
    rates = cells["lr"].values[unsettled.any(second_axis(cells)).values]
    return [
        Advice(
            f"The norm has not settled in {lacking} of {settled.size} cells, at η from {rates.min():.3g} to "
            f"{rates.max():.3g}: it still falls by weight decay where gradients vanish, or the run is short.",
            "Laws and potentials are of the other cells; where U falls towards 0 no run is long enough.",
        )
    ]


def _drifts_fact(found: xr.Dataset | str) -> Fact:
    """Say how many drifts are seen: with few seeds, intervals within a tenth of a step are much to ask."""
    if isinstance(found, str):
        return Fact("drifts that are seen", "not known", found)
    p_values = np.concatenate(
        [found[name].values.ravel() for name in found.data_vars if str(name).endswith("_p_value")]
    )
    seen, known = int((p_values < _SEEN).sum()), int(np.isfinite(p_values).sum())
    return Fact(
        "drifts that are seen",
        f"{seen} of {known}",
        f"of U, S and log r in all cells, between the last two quarters, with p < {_SEEN:g}; chance has "
        f"{_SEEN * known:.0f}",
    )


def _advice_on_seeds(setup: Setup) -> Sequence[Advice]:
    if setup.dataset.sizes["seed"] > 1:
        return []
    return [Advice("One seed says nothing of errors: there are no intervals.", "Set seeds = 4 or more.")]


def _advice_on_relaxation(setup: Setup) -> Sequence[Advice]:
    """Warn of norms that had no time to settle, if they did not start where they settle."""
    training = RunConfig.from_toml(setup.dataset.attrs["config"]).training
    if training.start == "predicted":
        return []
    slowest = float(np.nanmax(setup.gas.cells["relaxation_time"].values, initial=0.0))
    if 40.0 * slowest <= training.iterations:
        return []
    return [
        Advice(
            f"The slowest norm relaxes in {slowest:.3g} iterations, of which runs of {training.iterations} "
            "have fewer than 40 times as many: their norms still remember where they began.",
            'Set run.training.start = "predicted", or run longer.',
        )
    ]


def _states_table(cells: xr.Dataset) -> Table:
    other = second_axis(cells)
    header = [
        "η", _SYMBOLS[other], "r", "r / first order", "r / discrete", "growth / decay", "T", "U", "S (nats)",
        "p", "V", "Z", "1 + SNR²", "relaxation (iterations)",
    ]  # fmt: skip
    rows = []
    for lr in cells["lr"].values:
        for value in cells[other].values:
            one = cells.sel({"lr": lr, other: value})
            v = {name: float(one[name]) for name in one.data_vars if one[name].ndim == 0}
            rows.append(
                [
                    f"{lr:.3g}", f"{value:.3g}", f"{v['norm']:.4g}", f"{v['norm'] / v['norm_predicted']:.4f}",
                    f"{v['norm'] / v['norm_discrete']:.4f}",
                    _with_error(one, "growth_over_decay", ".4f"), _with_error(one, "temperature", ".3g"),
                    _with_error(one, "energy", ".4g"), _with_error(one, "entropy", ".0f"),
                    f"{v['pressure']:.3g}", f"{v['volume']:.3g}", _with_error(one, "compressibility", ".3g"),
                    f"{1.0 + v['squared_snr']:.3g}", _known(v["relaxation_time"], ".3g"),
                ]
            )  # fmt: skip
    return Table(header, rows)


def _known(value: float, form: str) -> str:
    return f"{value:{form}}" if np.isfinite(value) else ""


def _with_error(one: xr.Dataset, name: str, form: str) -> str:
    low, high = one[f"{name}_interval"].values
    half = (high - low) / 2.0
    value = f"{float(one[name]):{form}}"
    return f"{value} ± {half:.1g}" if np.isfinite(half) else value


def _laws_table(setup: Setup) -> Table:
    found, rows = setup.gas, list[list[str]]()
    protocol = found.cells.attrs["protocol"]
    for part, named in (
        (
            found.maxwell,
            {
                "slope": "Maxwell relation, {relation}: mean slope on the grid",
                "slope_at_one": "the same at η = {axis} = 1",
                "largest_error": "its largest error on the grid",
                "fit_residual": "what the quadratic fit of S leaves",
            },
        ),
        (
            found.exponents,
            {
                "radius_by_lr": "d log r / d log η",
                "radius_by_axis": "d log r / d log {axis}",
                "sphere_entropy_by_lr": "dS of directions / d log η, in (D - 1)/2",
                "sphere_entropy_by_axis": "dS of directions / d log {axis}, in (D - 1)/2",
                "temperature_collapse": "slope of log T along what it does not depend on in theory",
                "noise_variance_collapse": "slope of log σ² along the same",
            },
        ),
    ):
        if isinstance(part, str):
            rows.append(
                [next(iter(named.values())).format(relation="", axis=""), f"not known: {part}", "", "", ""]
            )
            continue
        words = {"relation": part.attrs.get("relation", ""), "axis": _axis_symbol(found.cells)}
        for name, text in named.items():
            rows.append(
                [
                    text.format(**words), f"{float(part[name]):.4g}", _interval(part, name),
                    _theory(protocol, name), _published(protocol, name),
                ]
            )  # fmt: skip
    return Table(["law", "measured", "90 % interval", "theory", "published"], rows)


def _axis_symbol(cells: xr.Dataset) -> str:
    return _SYMBOLS[second_axis(cells)]


_THEORY = {
    "fixed-elr": {"slope": -1.0, "slope_at_one": -1.0, "radius_by_axis": -0.5, "sphere_entropy_by_axis": 0.0},
    "fixed-lr": {"slope": 1.0, "slope_at_one": 1.0},
    "sphere": {"slope": 2.0, "slope_at_one": 2.0, "radius_by_lr": 0.0, "radius_by_axis": 1.0},
}


def _theory(protocol: str, name: str) -> str:
    if name.endswith("_collapse") or name in ("largest_error", "fit_residual"):
        return "0"
    known = _THEORY[protocol].get(name)
    return "" if known is None else f"{known:g}"


def _published(protocol: str, name: str) -> str:
    place = {"slope_at_one": 0, "largest_error": 1}.get(name)
    if place is None or protocol not in PUBLISHED_MAXWELL:
        return ""
    return "; ".join(f"{net} {values[place]:g}" for net, values in PUBLISHED_MAXWELL[protocol].items())
