"""Configuration: the shipped county loads; what is wrong is named with file, key and mend."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from etl.period import Period
from etl.registry import Feed, SecondOpinion, load_registry
from etl.settings import PROJECT_ROOT, Settings
from etl.vocabulary import ConfigurationError

CONFIG = PROJECT_ROOT / "config"


def changed_bank(tmp_path: Path, **changes: object) -> Path:
    """An overlay folder with one bank whose top-level keys are changed (None removes a key)."""
    content = yaml.safe_load((CONFIG / "banks" / "qinghe_rcb.yml").read_text(encoding="utf-8")) | changes
    folder = tmp_path / "banks"
    folder.mkdir()
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / "qinghe_rcb.yml").write_text(yaml.safe_dump(kept, allow_unicode=True), encoding="utf-8")
    return tmp_path


def test_the_shipped_county() -> None:
    registry = load_registry([CONFIG])
    assert len(registry.towns()) == 16
    assert len(registry.villages(Period.parse("2024-03"))) == 175
    expected = registry.expected(Period.parse("2024-03"))
    assert sum(entry.kind == "bank" for entry in expected) == 4
    assert sum(entry.source == "government" for entry in expected) == 3
    assert sum(entry.source == "mediation" for entry in expected) == 16


def test_nothing_is_expected_before_a_supplier_starts() -> None:
    assert load_registry([CONFIG]).expected(Period.parse("2024-01")) == []


def test_a_month_is_complete_without_an_occasional_delivery(tmp_path: Path) -> None:
    feeds = yaml.safe_load((CONFIG / "banks" / "qinghe_rcb.yml").read_text(encoding="utf-8"))["feeds"]
    feeds["loan_flows"]["occasional"] = True
    registry = load_registry([changed_bank(tmp_path, feeds=feeds), CONFIG])
    month = Period.parse("2024-03")
    occasional = set(registry.possible(month)) - set(registry.expected(month))
    assert {one.dataset for one in occasional if one.kind == "bank"} == {"loan_flows"}
    assert {one.source for one in occasional if one.kind == "files"} == {
        code for code, source in registry.sources.items() if source.is_occasional
    }


def test_an_overlay_file_wins(tmp_path: Path) -> None:
    overlay = changed_bank(tmp_path, institution_codes=["99000000000099"])
    assert load_registry([overlay, CONFIG]).banks["qinghe_rcb"].institution_codes == ["99000000000099"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"colour": "red"}, "colour: unknown key"),
        ({"since": None}, "since: missing key"),
        ({"code": "other"}, "code"),
        ({"open_periods": 0}, "open_periods"),
    ],
)
def test_a_wrong_bank_names_file_key_and_mend(tmp_path: Path, changes: dict[str, object], key: str) -> None:
    overlay = changed_bank(tmp_path, **changes)
    with pytest.raises(ConfigurationError) as caught:
        load_registry([overlay, CONFIG])
    message = str(caught.value)
    assert message.startswith(str(overlay / "banks" / "qinghe_rcb.yml"))
    assert key in message
    assert " — " in message
    assert "\n" not in message


def test_a_coding_may_only_map_to_known_values(tmp_path: Path) -> None:
    (tmp_path / "codes").mkdir()
    text = (CONFIG / "codes" / "loans.yml").read_text(encoding="utf-8").replace("FQ01: normal", "FQ01: fine")
    (tmp_path / "codes" / "loans.yml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"five_class\.codings\.pboc.*'fine'"):
        load_registry([tmp_path, CONFIG])


def test_a_new_bank_is_one_file(tmp_path: Path) -> None:
    shutil.copytree(CONFIG, tmp_path / "config")
    text = (CONFIG / "banks" / "xinhe_vb.yml").read_text(encoding="utf-8").replace("xinhe_vb", "lantian_vb")
    (tmp_path / "config" / "banks" / "lantian_vb.yml").write_text(text, encoding="utf-8")
    assert "lantian_vb" in load_registry([tmp_path / "config"]).banks


def test_settings_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="CREDITVILLAGE_CONFIG"):
        Settings.from_environment({"CREDITVILLAGE_CONFIG": str(tmp_path / "nowhere")})
    with pytest.raises(ConfigurationError, match="CREDITVILLAGE_ENGINE"):
        Settings.from_environment({"CREDITVILLAGE_ENGINE": "abacus"})


def test_settings_survive_the_way_to_another_process(tmp_path: Path) -> None:
    settings = Settings.from_environment({"CREDITVILLAGE_HOME": str(tmp_path), "CREDITVILLAGE_CONFIG": str(tmp_path)})
    assert Settings.from_environment(settings.environment()) == settings


def test_the_second_opinion_is_asked_of_the_same_share_whoever_asks() -> None:
    fifth = SecondOpinion(share_pct=20)
    asked = [f"d{number}" for number in range(5_000) if fifth.is_wanted(f"d{number}", 1)]
    assert asked == [f"d{number}" for number in range(5_000) if fifth.is_wanted(f"d{number}", 1)]
    assert 900 < len(asked) < 1_100
    assert SecondOpinion().is_wanted("d1", 500_000_000)
    assert not SecondOpinion().is_wanted("d1", 500_000_001)
    assert not SecondOpinion(share_pct=0).is_wanted("d1", 1)


LAYOUT = {"from": "2024-01", "format": "delimited", "codes": "pboc", "columns": ["loan_no", "balance_yuan"]}
FIXED = {**LAYOUT, "format": "fixed_width", "header": False, "widths": [4, 8]}
FEED = {"files": "x*.csv", "provides": [], "accept": {"rows": {"min": 0}, "max_rejected_share": 1}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"delimiter": "|@|"}, "delimiter: a delimiter is one ASCII character, not '|@|' — agree on one with the bank"),
        ({"delimiter": "，"}, "delimiter: a delimiter is one ASCII character"),
        ({"delimiter": "\n"}, "delimiter: a delimiter is one ASCII character"),
        ({"delimiter": "|", "quote": "|"}, "quote must be an ASCII character other than the delimiter"),
        ({"encoding": "gbk"}, "encoding"),
        ({"widths": [4, 8]}, "widths and zero_padded are for fixed_width, not delimited"),
        ({**FIXED, "widths": [4]}, "widths has 1 entries for 2 columns — give every column its width in bytes"),
        ({**FIXED, "widths": [4, 0]}, "widths.1"),
        ({**FIXED, "header": True}, "a fixed-width file has no header line — write header: false"),
        ({**FIXED, "encoding": "utf-16"}, "widths count bytes of utf-8 or gb18030"),
        ({**FIXED, "zero_padded": ["amount"]}, "zero_padded names amount, which is no column"),
        ({"trailer": {"marker": "T"}}, "trailer: a trailer without rows and totals controls nothing"),
        ({"trailer": {"marker": "T", "totals": {"amount": 2}}}, "trailer.totals names amount, which is no delivered"),
        ({"trailer": {"marker": "T", "rows": 2, "widths": [1, 8]}}, "trailer.widths are for fixed_width"),
        ({**FIXED, "trailer": {"marker": "T", "rows": 2}}, "trailer.widths are for fixed_width, and needed there"),
        ({**FIXED, "trailer": {"marker": "T", "rows": 3, "widths": [1, 8]}}, "trailer has no cell 3"),
        ({"format": "json_lines", "trailer": {"marker": "T", "rows": 2}}, "trailer is not for json_lines"),
        ({"columns": {"a": "loan_no", "b": "loan_no"}}, "two columns fill loan_no — name one of them under ignore"),
        ({"defaults": {"loan_no": "1"}}, "defaults fills loan_no, which is delivered"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    overlay = changed_bank(tmp_path, feeds={"loans": {**FEED, "layouts": [{**LAYOUT, **changes}]}})
    with pytest.raises(ConfigurationError) as caught:
        load_registry([overlay, CONFIG])
    message = str(caught.value)
    assert "qinghe_rcb.yml: feeds.loans.layouts.0" in message
    assert said in message and " — " in message and "\n" not in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"package": "zip", "inside": "gzip"}, "inside: nothing is opened inside a zip — make zip or pboc the last"),
        ({"package": "rar"}, "package"),
        ({"signer": "A" * 40}, "signer: only an openpgp package is signed"),
        ({"package": "openpgp", "signer": "county@example"}, "signer"),
        ({"package": "gzip", "parts": "numbered"}, "parts: numbered files lie in one zip, or bare beside each other"),
        ({"package": "bare", "parts": "any"}, "parts: only a zip has any number"),
        ({"layouts": [LAYOUT, LAYOUT]}, "layouts: two begin in 2024-01 — give one another month"),
    ],
)
def test_a_feed_that_cannot_be_opened_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    overlay = changed_bank(tmp_path, feeds={"loans": {**FEED, "layouts": [LAYOUT], **changes}})
    with pytest.raises(ConfigurationError, match=re.escape(said)) as caught:
        load_registry([overlay, CONFIG])
    assert "qinghe_rcb.yml: feeds.loans" in str(caught.value) and " — " in str(caught.value)


def test_wrappings_are_opened_from_outside_in() -> None:
    def wrappings(**changes: object) -> tuple[str, ...]:
        return Feed.model_validate({**FEED, "layouts": [LAYOUT], **changes}).wrappings

    assert wrappings() == wrappings(package="flag") == ()
    assert wrappings(package="sidecar", inside=["openpgp", "zip"]) == ("openpgp", "zip")
    assert wrappings(package="openpgp", inside="gzip") == ("openpgp", "gzip")


def test_the_newest_layout_in_force_whose_name_fits_is_the_layout() -> None:
    layouts = [
        {**LAYOUT, "from": "2024-01", "match": "*.csv"},
        {**LAYOUT, "from": "2024-03", "match": "*.csv", "delimiter": ";"},
        {**LAYOUT, "from": "2024-02", "match": "*.txt", "delimiter": "|"},
    ]
    feed = Feed.model_validate({**FEED, "layouts": layouts})

    def delimiter(period: str, name: str) -> str:
        return feed.layout_for(Period.parse(period), name).delimiter

    assert [delimiter(period, "x.csv") for period in ("2024-01", "2024-02", "2024-03", "2025-01")] == [*",,;;"]
    assert delimiter("2024-02", "x.txt") == delimiter("2024-12", "x.txt") == "|"
    for period, name in (("2023-12", "x.csv"), ("2024-01", "x.txt"), ("2024-03", "x.dat")):
        with pytest.raises(LookupError):
            delimiter(period, name)
