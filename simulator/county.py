"""Profile `county`: the world of one county lives from 2024-01 to the month asked for, then delivers that month."""

from __future__ import annotations

from pathlib import Path

from etl.period import Period
from simulator import (
    bankfiles,
    enterprises,
    government,
    lending,
    mediation,
    mistakes,
    register,
    village_life,
)
from simulator.settings import Config
from simulator.text import day_number
from simulator.truth import Truth
from simulator.world import FIRST_MONTH, County


def write(out: Path, month: Period, households: int, seed: int, config_folder: Path) -> Truth:
    """Write everything the county's suppliers deliver for a month, and truth.json."""
    config = Config(config_folder)
    first_delivered = Period.parse(str(config.yaml("county.yml")["first_period"]))
    county = live(seed, households, config, month, first_delivered)
    truth = Truth(seed, households, "county", str(month))
    enterprises.drop_lists(county, out, truth)
    bankfiles.drop_bank_files(county, out, truth)
    mediation.drop_logs(county, out, truth)
    village_life.drop_all(county, out, truth, first_delivered)
    government.write_register(county, out, truth, first_pull=month <= first_delivered)
    truth.save(out / "truth.json")
    return truth


def live(seed: int, households: int, config: Config, month: Period, first_delivered: Period) -> County:
    """The county at the end of a month. Every month before it is lived through; nothing is read from disk."""
    county = register.found_county(seed, households, config, config.places(FIRST_MONTH))
    lending.found_banks(county)
    mediation.live_on(county)
    village_life.live_on(county)
    enterprises.found(county)
    while county.month < month:
        previous_last_day = county.last_day
        county.month = county.month.next()
        lending.live_on(county, previous_last_day)
        register.live_on(county)
        mediation.live_on(county)
        village_life.live_on(county)
        everything = county.month <= first_delivered
        mistakes.live_on(county, None if everything else day_number(county.month.start) * 86_400)
        enterprises.live_on(county, delivers_all=everything)
    return county
