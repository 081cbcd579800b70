"""Configuration: the shipped county loads; what is wrong is named with file, key and mend."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from etl.period import Period
from etl.registry import SecondOpinion, load_registry
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
