"""Every word of the policy language, with values on both sides of every bound, on a subject no code knows."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl.vocabulary import ConfigurationError
from tests.grading.shops import (
    OTHER_TOWN,
    PERIOD,
    TOWN,
    Document,
    grade_shops,
    indicator,
    shop_plan,
    shop_policies,
    version,
)  # fmt: skip

STAFF = [{"at_least": 3, "points": 10}, {"at_least": 1, "points": 5}, {"else": 0}]


def by_key(**values: Any) -> list[dict[str, Any]]:
    """Shops named by their case, each with one value of a column."""
    [(column, given)] = values.items()
    return [{"shop_key": key, column: value} for key, value in given.items()]


# ---- any subject ----------------------------------------------------------------------------------------------------


def test_a_subject_is_a_policy_file_and_features(tmp_path: Path) -> None:
    """Points, score, grade, veto and reason of a subject of which the code has never heard."""
    policy = version(
        indicator("staff", value="staff", bands=STAFF),
        veto=[{"id": "debt", "when": "debt_yuan > 100", "requires": ["debt_yuan"], "binds": "person", "cap": "B",
               "label": {"zh": "欠款", "en": "debt"}, "clause": "shop (2)"}],
        not_rated=[{"reason": "absent", "when": "is_closed"}],
    )  # fmt: skip
    found = grade_shops(
        tmp_path, policy,
        shops=[
            {"shop_key": "good", "staff": 3}, {"shop_key": "vetoed", "staff": 3, "debt_yuan": 101},
            {"shop_key": "closed", "staff": 3, "is_closed": True}, {"shop_key": "edge", "staff": 3, "debt_yuan": 100},
        ],
    )  # fmt: skip
    columns = ("score", "computed_grade", "status", "not_rated_reason", "veto_ids", "policy_version", "policy_status")
    assert {key: tuple(row[name] for name in columns) for key, row in found.grades.items()} == {
        "good": (10, "AAA", "effective", None, None, "1", "illustrative"),
        "vetoed": (10, "B", "effective", None, "debt", "1", "illustrative"),
        "edge": (10, "AAA", "effective", None, None, "1", "illustrative"),
        "closed": (None, None, "effective", "absent", None, "1", "illustrative"),
    }
    assert found.grades["good"]["town_code"] == TOWN
    assert {key for key, _ in found.points} == {"good", "vetoed", "edge"}
    assert found.of("good", "staff", "evidence") == "core_shops"


def test_shops_are_not_graded_before_their_policy_begins(tmp_path: Path) -> None:
    later = version(indicator("staff", value="staff", bands=STAFF)) | {"from": "2024-04"}
    assert "shop" not in shop_policies(tmp_path, later).scorecards
    assert shop_plan(tmp_path, later) == []


# ---- where a value comes from, and the bands ------------------------------------------------------------------------


def test_bands_are_met_on_their_bounds(tmp_path: Path) -> None:
    policy = version(
        indicator("at_least", value="staff", bands=STAFF),
        indicator("at_most", value="sales_yuan", bands=[{"at_most": 10.5, "points": 10}, {"at_most": 20, "points": 5}, {"else": 0}]),
        indicator("bins", value="debt_yuan", bands=[
            {"below": 0, "points": 1}, {"at_least": 0, "below": 7.25, "points": 10}, {"at_least": 7.25, "points": 3}
        ]),
        indicator("word", value="branch", bands=[{"equals": "food", "points": 10}, {"in": ["tools", "seeds"], "points": 6}, {"else": 2}]),
        total=40,
    )  # fmt: skip
    found = grade_shops(
        tmp_path, policy,
        shops=[
            {"shop_key": "low", "staff": 0, "sales_yuan": "10.50", "debt_yuan": "-0.01", "branch": "food"},
            {"shop_key": "mid", "staff": 1, "sales_yuan": "10.51", "debt_yuan": "0.00", "branch": "tools"},
            {"shop_key": "more", "staff": 2, "sales_yuan": "20.00", "debt_yuan": "7.24", "branch": "seeds"},
            {"shop_key": "high", "staff": 3, "sales_yuan": "20.01", "debt_yuan": "7.25", "branch": "Food"},
            {"shop_key": "none"},
        ],
    )  # fmt: skip
    names = ("at_least", "at_most", "bins", "word")
    assert {shop: [int(found.of(shop, name)) for name in names] for shop in ("low", "mid", "more", "high", "none")} == {
        "low": [0, 10, 1, 10], "mid": [5, 5, 10, 6], "more": [5, 5, 10, 6], "high": [10, 0, 3, 2], "none": [4, 4, 4, 4]
    }  # fmt: skip
    assert [found.of("more", name, "band") for name in names] == [
        "at_least 1",
        "at_most 20",
        "at_least 0 below 7.25",
        "in tools|seeds",
    ]
    assert [found.of("none", name, "state") for name in names] == ["missing"] * 4
    assert found.of("high", "at_most", "value_text") == "20.01"
    assert found.grades["high"]["score"] == 15


def test_a_ratio_is_compared_exactly_with_whole_percent(tmp_path: Path) -> None:
    """100.4 over 1000 is more than 10 %: for `at_most` it rounds up; 999.9 over 10000 is less: else it rounds down."""
    ratio = {"numerator": "debt_yuan", "denominator": "sales_yuan"}
    policy = version(
        indicator("low", ratio=ratio | {"empty": 0}, evidence="debt_evidence", bands=[{"at_most": 10, "points": 10}, {"else": 0}]),
        indicator("high", ratio=ratio, bands=[{"at_least": 10, "points": 10}, {"else": 0}]),
    )  # fmt: skip
    given = {
        "just": ("100.00", "1000"), "above": ("100.01", "1000"), "under": ("99.99", "1000"), "owed": ("-5", "1000"),
        "nothing": ("0", "0"), "without": ("5", "0"), "unknown": (None, "5"),
    }  # fmt: skip
    found = grade_shops(
        tmp_path, policy,
        shops=[{"shop_key": key, "debt_yuan": debt, "sales_yuan": sales} for key, (debt, sales) in given.items()],
    )  # fmt: skip
    assert {key: (int(found.of(key, "low")), int(found.of(key, "high"))) for key in given} == {
        "just": (10, 10), "above": (0, 10), "under": (10, 0), "owed": (10, 0), "nothing": (10, 4), "without": (4, 4), "unknown": (4, 4)
    }  # fmt: skip
    assert [found.of("above", name, "value_text") for name in ("low", "high")] == ["11.00", "10.00"]
    assert [found.of("owed", name, "value_text") for name in ("low", "high")] == ["0.00", "-1.00"]
    assert [found.of("just", name, "evidence") for name in ("low", "high")] == ["core_shops", "core_shops"]


def test_evidence_is_a_column_of_the_features_or_a_core_table(tmp_path: Path) -> None:
    policy = version(
        indicator("own", value="staff", evidence="debt_evidence", bands=STAFF),
        indicator("table", value="staff", evidence="core_members", bands=STAFF),
    )
    found = grade_shops(
        tmp_path,
        policy,
        shops=[{"shop_key": "s", "staff": 1, "debt_evidence": "core_loans:7"}, {"shop_key": "t", "staff": 1}],
    )
    evidence = [found.of(shop, name, "evidence") for shop in ("s", "t") for name in ("own", "table")]
    assert evidence == ["core_loans:7", "core_members", "core_shops", "core_members"]


# ---- peers ----------------------------------------------------------------------------------------------------------


def peers(within: str, otherwise: str, minimum: int = 3) -> Document:
    return indicator(
        "to_median",
        peer={"of": "sales_yuan", "within": within, "minimum_sample": minimum, "otherwise": otherwise},
        bands=[{"at_least": 120, "points": 10}, {"at_least": 80, "points": 6}, {"else": 0}],
    )


SALES = [
    {"shop_key": "a1", "town_code": TOWN, "village_code": "v1", "sales_yuan": "100.00"},
    {"shop_key": "a2", "town_code": TOWN, "village_code": "v1", "sales_yuan": "200.00"},
    {"shop_key": "a3", "town_code": TOWN, "village_code": "v2", "sales_yuan": "239.99"},
    {"shop_key": "a4", "town_code": TOWN, "village_code": "v2", "sales_yuan": "240.00"},
    {"shop_key": "b1", "town_code": OTHER_TOWN, "village_code": "v3", "sales_yuan": "160.00"},
    {"shop_key": "b2", "town_code": OTHER_TOWN, "village_code": "v3"},
]


@pytest.mark.parametrize(
    ("within", "otherwise", "minimum", "expected"),
    [
        # four in the town: the lower middle is 200.00; one with a value in the other: the county's, third of five, 200.00
        ("town", "county", 3, {"a1": "50.00", "a2": "100.00", "a3": "119.00", "a4": "120.00", "b1": "80.00", "b2": None}),
        ("town", "missing", 3, {"a1": "50.00", "a2": "100.00", "a3": "119.00", "a4": "120.00", "b1": None, "b2": None}),
        # two in each village: 100.00 and 239.99; at a minimum of three both are compared with the county
        ("village", "county", 2, {"a1": "100.00", "a2": "200.00", "a3": "100.00", "a4": "100.00", "b1": "80.00", "b2": None}),
        ("village", "county", 3, {"a1": "50.00", "a2": "100.00", "a3": "119.00", "a4": "120.00", "b1": "80.00", "b2": None}),
        ("town", "county", 6, dict.fromkeys(("a1", "a2", "a3", "a4", "b1", "b2"))),
    ],
)  # fmt: skip
def test_peers(tmp_path: Path, within: str, otherwise: str, minimum: int, expected: dict[str, str | None]) -> None:
    found = grade_shops(tmp_path, version(peers(within, otherwise, minimum)), shops=SALES)
    assert {key: found.of(key, "to_median", "value_text") for key in expected} == expected
    assert {key: found.of(key, "to_median", "state") for key in expected} == {
        key: "missing" if value is None else "present" for key, value in expected.items()
    }


def test_the_value_is_taken_by_rank_however_many_there_are(tmp_path: Path) -> None:
    """More than one interval of the first pass, ties on the middle, and a median below zero, which compares nothing."""
    many = [{"shop_key": f"s{number:03d}", "sales_yuan": f"{number * 37 % 101 * 50}.00"} for number in range(101)]
    found = grade_shops(tmp_path, version(peers("town", "missing")), shops=many)
    middle = sorted(number * 37 % 101 * 50 for number in range(101))[50]
    assert found.of("s001", "to_median", "value_text") == f"{37 * 50 * 100 // middle}.00"
    tied = [{"shop_key": f"t{number}", "sales_yuan": "500.00" if number < 7 else "900000.00"} for number in range(9)]
    assert (
        grade_shops(tmp_path, version(peers("town", "missing")), shops=tied).of("t8", "to_median", "value_text")
        == "180000.00"
    )
    below = [{"shop_key": f"u{number}", "sales_yuan": "-1.00"} for number in range(3)]
    assert (
        grade_shops(tmp_path, version(peers("town", "missing")), shops=below).of("u1", "to_median", "state")
        == "missing"
    )


# ---- events ---------------------------------------------------------------------------------------------------------


def on(days_ago: int) -> date:
    return PERIOD.end - timedelta(days=days_ago)


def events(**said: Any) -> Document:
    return indicator("deeds", events={"relation": "shop_events", "on": "happened_on"} | said)


def deeds(*given: tuple[str, int, str]) -> list[dict[str, Any]]:
    return [
        {"shop_key": shop, "happened_on": on(days), "kind": kind, "evidence": f"core_shop_events:{number}"}
        for number, (shop, days, kind) in enumerate(given)
    ]


def test_events_give_points_each_up_to_the_cap_and_down_to_the_floor(tmp_path: Path) -> None:
    entry = events(kind="kind", points={"help": 3, "litter": -2.5}, start=5, floor=-1)
    given = deeds(
        ("one", 0, "help"), ("two", 9, "help"), ("two", 9, "help"), ("bad", 0, "litter"), ("both", 1, "help"), ("both", 2, "litter"),
        ("worst", 3, "litter"), ("worst", 3, "litter"), ("worst", 3, "litter"), ("other", 0, "rain"), ("future", -1, "help"),
    )  # fmt: skip
    shops = [{"shop_key": key} for key in ("one", "two", "bad", "both", "worst", "other", "future", "none")]
    found = grade_shops(tmp_path, version(entry, total=None), shops=shops, events=given)
    assert {row["shop_key"]: row["points"] for row in found.points.values()} == {
        "one": 8, "two": 10, "bad": Decimal("2.50"), "both": Decimal("5.50"), "worst": -1, "other": 5, "future": 5, "none": 5
    }  # fmt: skip
    assert found.of("two", "deeds", "value_text") == "6.00"
    assert found.of("worst", "deeds", "evidence") == "core_shop_events:6 +2"
    assert (found.of("none", "deeds", "evidence"), found.of("none", "deeds", "band")) == ("shop_events", "events")


@pytest.mark.parametrize(
    ("decay", "points"),
    [
        ({"linear_days": 10}, {0: "3.00", 1: "2.70", 7: "0.90", 9: "0.30", 10: "0.00", 11: "0.00"}),
        ({"linear_days": 7}, {0: "3.00", 1: "2.57", 6: "0.42", 7: "0.00"}),
        ({"steps": [{"at_most": 5, "pct": 100}, {"at_most": 8, "pct": 33}]}, {0: "3.00", 5: "3.00", 6: "0.99", 8: "0.99", 9: "0.00"}),
        (None, {0: "3.00", 5000: "3.00"}),
    ],
)  # fmt: skip
def test_events_fade(tmp_path: Path, decay: Document | None, points: dict[int, str]) -> None:
    shops = [{"shop_key": f"d{days}"} for days in points]
    given = deeds(*((f"d{days}", days, "help") for days in points))
    found = grade_shops(tmp_path, version(events(points=3, decay=decay)), shops=shops, events=given)
    assert {days: str(found.of(f"d{days}", "deeds")) for days in points} == points


def test_fading_rounds_towards_nothing_on_both_sides(tmp_path: Path) -> None:
    """7 days, one of them gone: 3 * 6 / 7 = 2.571…; minus as much is -2.57 too, and three together are rounded once."""
    entry = events(kind="kind", points={"help": 3, "litter": -3}, floor=-10, decay={"linear_days": 7})
    given = deeds(
        ("good", 1, "help"), ("bad", 1, "litter"), ("three", 1, "help"), ("three", 1, "help"), ("three", 1, "help")
    )
    shops = [{"shop_key": key} for key in ("good", "bad", "three")]
    found = grade_shops(tmp_path, version(entry, total=None), shops=shops, events=given)
    assert {key: str(found.of(key, "deeds")) for key in ("good", "bad", "three")} == {
        "good": "2.57",
        "bad": "-2.57",
        "three": "7.71",
    }


# ---- missing, consent, withheld -------------------------------------------------------------------------------------


def test_without_consent_the_neutral_points_are_given(tmp_path: Path) -> None:
    """However good or bad the value is: refusing is neither rewarded nor punished."""
    policy = version(
        indicator("taxed", value="sales_yuan", consent="tax", bands=[{"at_least": 1, "points": 10}, {"else": 0}]),
        indicator(
            "ratio", consent="bank_data", ratio={"numerator": "debt_yuan", "denominator": "sales_yuan"},
            bands=[{"at_most": 1, "points": 10}, {"else": 0}],
        ),
        indicator("deeds", events={"relation": "shop_events", "on": "happened_on", "points": 5}, consent="bank_data"),
    )  # fmt: skip
    rich = {"sales_yuan": "100.00", "debt_yuan": "0.00"}
    found = grade_shops(
        tmp_path, policy,
        shops=[
            {"shop_key": "agreed", **rich}, {"shop_key": "no_tax", **rich, "has_tax_consent": False},
            {"shop_key": "silent", **rich, "has_tax_consent": None, "bank_data_consent": "withdrawn"},
        ],
        events=deeds(("agreed", 0, "x"), ("no_tax", 0, "x"), ("silent", 0, "x")),
    )  # fmt: skip
    rows = {
        shop: [(int(found.of(shop, name)), found.of(shop, name, "state")) for name in ("taxed", "ratio", "deeds")]
        for shop in found.grades
    }
    assert rows == {
        "agreed": [(10, "present"), (10, "present"), (5, "present")],
        "no_tax": [(4, "no_consent"), (10, "present"), (5, "present")],
        "silent": [(4, "no_consent"), (4, "no_consent"), (4, "no_consent")],
    }
    assert found.of("silent", "taxed", "value_text") is None


@pytest.mark.parametrize(
    "select",
    [
        "SELECT shop_key, sales_yuan AS value, 'present' AS state, 'core_shops' AS evidence FROM shop_features",
        "SELECT f.shop_key, max(f.sales_yuan) AS value, 'present' AS state, 'core_shops' AS evidence "
        "FROM shop_features AS f INNER JOIN core_shops AS s ON s.shop_key = f.shop_key GROUP BY f.shop_key",
    ],
    ids=["projection", "joined"],
)
def test_sql_that_forgets_consent_is_asked_for_it_all_the_same(tmp_path: Path, select: str) -> None:
    policy = version(indicator("taxed", consent="tax", bands=[{"at_least": 1, "points": 10}, {"else": 0}]))
    shops = [{"shop_key": "yes", "sales_yuan": 5}, {"shop_key": "no", "sales_yuan": 5, "has_tax_consent": False}]
    found = grade_shops(tmp_path, policy, shops=shops, sql={"indicators/taxed": select})
    assert {shop: int(found.of(shop, "taxed")) for shop in ("yes", "no")} == {"yes": 10, "no": 4}


def test_withheld_rows_hold_and_carried_rows_never_raise(tmp_path: Path) -> None:
    policy = version(indicator("staff", value="staff", bands=STAFF))
    before = [
        {"shop_key": key, "indicator": "staff", "points": 5} for key in ("held", "carried_up", "carried_down", "done")
    ]
    found = grade_shops(
        tmp_path, policy, before=before,
        shops=[
            {"shop_key": "held", "staff": 3, "trade_input_state": "withheld"},
            {"shop_key": "new", "staff": 3, "trade_input_state": "withheld"},
            {"shop_key": "carried_up", "staff": 3, "trade_input_state": "carried_forward"},
            {"shop_key": "carried_down", "staff": 0, "trade_input_state": "carried_forward"},
            {"shop_key": "done", "staff": 3},
        ],
    )  # fmt: skip
    scores = {key: (row["score"], row["not_rated_reason"], row["input_state"]) for key, row in found.grades.items()}
    assert scores == {
        "held": (5, None, "withheld"), "new": (None, "incomplete", "withheld"), "carried_up": (5, None, "carried_forward"),
        "carried_down": (0, None, "carried_forward"), "done": (10, None, "complete"),
    }  # fmt: skip
    assert found.of("held", "staff", "evidence") == "core_shop_points of the previous period"


# ---- base score and negative points ---------------------------------------------------------------------------------


def test_points_may_lower_a_base_score_and_still_sum_to_it(tmp_path: Path) -> None:
    policy = version(
        indicator("staff", value="staff", max=20, missing=-3, bands=[
            {"at_least": 3, "points": 20}, {"at_least": 1, "points": 0}, {"else": -40.5}
        ]),
        base=500, total=None, grades=[{"grade": "AAA", "at_least": 520}, {"grade": "A", "at_least": 500}, {"grade": "B"}],
    )  # fmt: skip
    found = grade_shops(tmp_path, policy, shops=by_key(staff={"three": 3, "one": 1, "none": 0, "unknown": None}))
    assert {key: (row["score"], row["computed_grade"]) for key, row in found.grades.items()} == {
        "three": (520, "AAA"), "one": (500, "A"), "none": (Decimal("459.50"), "B"), "unknown": (497, "B")
    }  # fmt: skip
    for shop, row in found.grades.items():
        assert sum(point["points"] for (key, _), point in found.points.items() if key == shop) == row["score"]
    assert found.of("one", "base", "evidence") == "policy/shop.yml"


# ---- versions and scopes --------------------------------------------------------------------------------------------


def town_version(**said: Any) -> Document:
    generous = [{"at_least": 1, "points": 10}, {"else": 6}]
    return version(indicator("staff", value="staff", bands=generous)) | {"version": "t1", "scope": OTHER_TOWN} | said


def test_a_towns_own_version_grades_its_shops_and_the_countys_the_rest(tmp_path: Path) -> None:
    county = version(indicator("staff", value="staff", bands=STAFF), peers("town", "county", 1))
    found = grade_shops(
        tmp_path, county, town_version(),
        shops=[
            {"shop_key": "c", "staff": 1, "sales_yuan": 1}, {"shop_key": "t", "staff": 1, "town_code": OTHER_TOWN, "sales_yuan": 1},
            {"shop_key": "nowhere", "staff": 1, "town_code": None, "sales_yuan": 1},
        ],
    )  # fmt: skip
    assert {key: (row["score"], row["policy_version"]) for key, row in found.grades.items()} == {
        "c": (11, "1"), "t": (10, "t1"), "nowhere": (9, "1")
    }  # fmt: skip
    assert {(shop, name): row["policy_version"] for (shop, name), row in found.points.items()} == {
        ("c", "staff"): "1", ("c", "to_median"): "1", ("nowhere", "staff"): "1", ("nowhere", "to_median"): "1", ("t", "staff"): "t1"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "graded_by"),
    [
        ({"from": "2024-03"}, "t1"), ({"from": "2024-04"}, "1"), ({"from": "2024-01", "to": "2024-03"}, "t1"),
        ({"from": "2024-01", "to": "2024-02"}, "1"),
    ],
)  # fmt: skip
def test_a_towns_own_version_holds_from_month_to_month(tmp_path: Path, said: Document, graded_by: str) -> None:
    county = version(indicator("staff", value="staff", bands=STAFF))
    found = grade_shops(
        tmp_path, county, town_version(**said), shops=[{"shop_key": "t", "staff": 1, "town_code": OTHER_TOWN}]
    )
    assert found.grades["t"]["policy_version"] == graded_by


# ---- what is wrong is said in one line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (indicator("x", value="staff", sql="y", bands=STAFF), "not from both"),
        (indicator("x", value="staff"), "needs bands"),
        (events(points=3) | {"bands": STAFF}, "needs bands"),
        (events(points=0), "without points"),
        (events(points={"a": 1}), "column kind"),
        (events(points=1, kind="kind"), "column kind"),
        (events(points=1, start=11), "more than max"),
        (events(points=1, start=-1), "below floor"),
        (events(points=1, decay={}), "linear_days or steps"),
        (events(points=1, decay={"linear_days": 3, "steps": [{"at_most": 3, "pct": 1}]}), "linear_days or steps"),
        (events(points=1, decay={"steps": [{"at_most": 3, "pct": 9}, {"at_most": 3, "pct": 1}]}), "ascending"),
        (events(points=1, decay={"steps": [{"at_most": 3, "pct": 1}, {"at_most": 4, "pct": 9}]}), "grow"),
        (peers("county", "county"), "within"),
        (peers("town", "missing", 0), "minimum_sample"),
        (peers("town", "county") | {"bands": [{"at_least": 1.5, "points": 10}, {"else": 0}]}, "whole numbers"),
        (peers("town", "county") | {"bands": [{"equals": "a", "points": 10}, {"else": 0}]}, "no categories"),
        (indicator("x", value="branch", bands=[{"in": ["a", "b"], "points": 10}, {"equals": "b", "points": 1}, {"else": 0}]), "twice"),
        (indicator("x", value="branch", bands=[{"in": [], "points": 10}, {"else": 0}]), "in"),
        (indicator("x", bands=STAFF, evidence="core_shops"), "bring their own"),
        (indicator("base", value="staff", bands=STAFF), "base score"),
        (indicator("x", value="staff", bands=STAFF, consent="gossip"), "consent"),
    ],
)  # fmt: skip
def test_wrong_words_are_refused(tmp_path: Path, entry: Document, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        shop_policies(tmp_path, version(entry))
    assert "policy/shop.yml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"total": 9}, "sum to 10"), ({"total": None}, "total is missing"), ({"base": 5}, "sum to 15"),
        ({"to": "2023-12"}, "lies before"), ({"scope": "3411"}, "scope"), ({"scope": OTHER_TOWN}, "for the county"),
    ],
)  # fmt: skip
def test_wrong_versions_are_refused(tmp_path: Path, said: Document, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        shop_policies(tmp_path, version(indicator("staff", value="staff", bands=STAFF), **said))


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ({"grades": [{"grade": "A", "at_least": 4}, {"grade": "B"}]}, "grades"),
        ({"blocks": {"trade": {"zh": "经营", "en": "trade"}, "luck": {"zh": "运", "en": "luck"}}}, "blocks"),
    ],
)
def test_a_town_speaks_of_the_countys_blocks_and_grades(tmp_path: Path, said: Document, key: str) -> None:
    county = version(indicator("staff", value="staff", bands=STAFF))
    with pytest.raises(ConfigurationError, match=rf"{key}.*differ in {OTHER_TOWN}"):
        shop_policies(tmp_path, county, town_version(**said))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (indicator("x", value="stuff", bands=STAFF), "no column 'stuff'"),
        (indicator("x", value="staff", evidence="core_shop", bands=STAFF), "no column 'core_shop'"),
        (indicator("x", value="staff", consent="income", bands=STAFF), "has_income_consent"),
        (indicator("x", ratio={"numerator": "staff", "denominator": "seats"}, bands=[{"at_least": 1, "points": 10}, {"else": 0}]), "seats"),
        (indicator("nowhere", bands=STAFF), "its SQL is missing"),
        (events(points=3) | {"events": {"relation": "gossip", "on": "happened_on", "points": 1}}, "gossip"),
        (events(points=3, on="told_on"), "told_on"),
        (events(points={"a": 1}, kind="sort"), "sort"),
    ],
)  # fmt: skip
def test_what_the_policy_names_must_exist(tmp_path: Path, entry: Document, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        shop_plan(tmp_path, version(entry))
    assert "\n" not in str(caught.value)


def test_peers_are_counted_from_the_table_itself(tmp_path: Path) -> None:
    """A computed column would have to be computed twice; the policy says where it belongs."""
    computed = (
        "SELECT shop_key, town_code, village_code, trade_input_state, sales_yuan * 2 AS sales_yuan FROM core_shops"
    )
    with pytest.raises(ConfigurationError, match="not simply a column"):
        shop_plan(tmp_path, version(peers("town", "county")), sql={"features/shop_features": computed})
