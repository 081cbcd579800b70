"""A synthetic county with known truth: what banks, the government and villages would deliver, and what must be found."""

from __future__ import annotations

from pathlib import Path

from etl.period import Period
from etl.vocabulary import ConfigurationError
from simulator.truth import Truth

__all__ = ["Truth", "simulate"]

CONFIG = Path(__file__).resolve().parent.parent / "config"
PROFILES = ("county", "province")


def simulate(
    out: Path, period: str, households: int, seed: int, profile: str = "county", config: Path = CONFIG
) -> Truth:
    """Write one synthetic month to `out` and return its truth.

    `county` writes drop/<bank>/…, drop/village_logs/…, government/*.csv and truth.json; `province` writes
    province/*.csv for benchmarks and plants nothing. The same arguments give the same bytes, whatever was written
    before; truth.json keeps the other periods it already holds. Raises ConfigurationError for an unknown profile, too
    few households, a period before 2024-02, or configuration that cannot be read.
    """
    month = _checked(period, households, profile)
    if profile == "province":
        from simulator import province

        return province.write(Path(out), month, households, seed, Path(config))
    from simulator import county

    return county.write(Path(out), month, households, seed, Path(config))


def _checked(period: str, households: int, profile: str) -> Period:
    if profile not in PROFILES:
        raise ConfigurationError(
            "simulate", "--profile", f"{profile!r} is unknown", f"use one of {', '.join(PROFILES)}"
        )
    if households < 200:
        raise ConfigurationError("simulate", "--households", f"{households} is too few", "use at least 200")
    try:
        month = Period.parse(period)
    except ValueError as problem:
        raise ConfigurationError("simulate", "--period", str(problem), "write YYYY-MM") from problem
    if month < Period(2024, 2):
        raise ConfigurationError(
            "simulate", "--period", f"{period} is before 2024-02", "the synthetic world delivers from 2024-02"
        )
    return month
