"""What was left lying in a drop zone is told to its supplier, and only for as long as it lies there."""

from __future__ import annotations

from pathlib import Path

from etl.intake.arrivals import NotTaken, Scan, write_notes


def test_the_note_names_file_and_reason_and_goes_away(tmp_path: Path) -> None:
    left = NotTaken("qinghe_rcb", "file:///drop/qinghe_rcb/x\n.zip", "x\n.zip", "no_pattern")
    write_notes(tmp_path, Scan(unrecognised=[left]))
    note = tmp_path / "qinghe_rcb" / "not_taken.txt"
    assert note.read_text(encoding="utf-8") == "x�.zip\t文件名不符合约定 the name fits no agreed pattern\n"
    write_notes(tmp_path, Scan())
    assert not note.exists()
    assert list(tmp_path.rglob("*.tmp")) == []
