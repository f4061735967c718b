"""A measured value beside theory, and what a study raises where they are too far apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from pythermo.reports.sections import Advice, Fact, Section, Table


class CalibrationError(RuntimeError):
    """A measured value lies farther from theory than its tolerance."""


@dataclass(frozen=True)
class Check:
    """A measured value beside theory: ``error`` must not be beyond ``tolerance``, in the unit named."""

    name: str
    error: float
    tolerance: float
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; not so for NaN."""
        return abs(self.error) <= self.tolerance


def require_passed(checks: Sequence[Check]) -> None:
    """Raise CalibrationError with the checks that failed, if any did."""
    failed = [check for check in checks if not check.passed]
    if failed:
        listed = "\n  ".join(
            f"{c.name}: off by {c.error:.3g} {c.unit}, allowed {c.tolerance:g}" for c in failed
        )
        raise CalibrationError(f"{len(failed)} of {len(checks)} checks failed\n  {listed}")


def checks_headline(checks: Sequence[Check]) -> Section:
    """Return how many checks passed, and which did not."""
    failed = [check.name for check in checks if not check.passed]
    advice = [Advice(f"Failed: {'; '.join(failed)}.", "Do not trust what rests on it.")] if failed else []
    passed = Fact("checks passed", f"{len(checks) - len(failed)} of {len(checks)}")
    return Section("Checks", facts=[passed], advice=advice, table=checks_table(checks))


def checks_table(checks: Sequence[Check]) -> Table:
    """Return all checks as a table."""
    rows = [
        [
            c.name,
            f"{c.error:.3g} {c.unit}",
            f"{c.tolerance:g} {c.unit}",
            "passed" if c.passed else "FAILED",
        ]
        for c in checks
    ]
    return Table(["check", "error", "allowed", "verdict"], rows)
