"""The receipt as one page: self-contained HTML, Chinese first, readable on a phone, printable on A4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
import pyarrow as pa

from etl.intake.receipt_words import (
    ACTION_LABELS,
    COLUMN_LABELS,
    OUTCOME_SAYS,
    Facing,
    diff_says,
    in_force_says,
    next_due_says,
    summary_lines,
    visible,
)
from etl.vocabulary import OUTCOME_LABELS

TEMPLATE: Final = "receipt.html.j2"
_COLOURS: Final[Mapping[str, str]] = {
    "accepted": "good", "accepted_with_warnings": "fair", "duplicate": "plain", "expired": "bad",
    "rejected": "bad", "unreadable": "bad",
}  # fmt: skip
_PARTICULARS: Final = ("dataset", "delivery", "revision", "rule set", "SHA-256 of the file", "signing key")
_ORDER: Final = tuple(ACTION_LABELS)


@dataclass(frozen=True)
class RuleCard:
    """One rule with its full count and the findings shown."""

    rule: str
    action: str
    count: int
    first: Mapping[str, Any]
    shown: Sequence[Mapping[str, Any]]
    reason: str


def page_bytes(document: Mapping[str, Any], findings: pa.Table, facing: Facing) -> bytes:
    """The page of one receipt. `findings` are all of them; the page shows those of the document, and full counts."""
    cards = _cards(document, findings, facing)
    return (
        _template()
        .render(
            d=document,
            facing=facing,
            file_name=visible(facing.file_name),
            outcome=OUTCOME_LABELS[document["outcome"]],
            colour=_COLOURS[document["outcome"]],
            says=OUTCOME_SAYS[document["outcome"]],
            force=in_force_says(document),
            due=next_due_says(document),
            lines=[line for line in summary_lines(document, facing) if line.en in _PARTICULARS],
            diff=diff_says(document),
            cards=cards,
            can_confirm=facing.can_confirm
            and any(card.action == "warn" and card.first["row"] is not None for card in cards),
            has_details=any(card.first["row"] is not None for card in cards),
            actions=ACTION_LABELS,
            columns=COLUMN_LABELS,
            shown_columns=_shown_columns(cards),
        )
        .encode("utf-8")
    )


@cache
def _template() -> jinja2.Template:
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE)


def _cards(document: Mapping[str, Any], findings: pa.Table, facing: Facing) -> list[RuleCard]:
    """One card for each rule and action: what refuses first, what does not count last."""
    shown: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for finding in document["findings"]:
        shown.setdefault((finding["rule"], finding["action"]), []).append(finding)
    counted = findings.group_by(["rule", "action"]).aggregate([([], "count_all")]).to_pylist()
    counts = {(entry["rule"], entry["action"]): entry["count_all"] for entry in counted}
    cards = [
        RuleCard(rule, action, counts[rule, action], found[0], found, facing.known.get(rule, ""))
        for (rule, action), found in shown.items()
    ]
    return sorted(cards, key=lambda card: (_ORDER.index(card.action), card.rule))


def _shown_columns(cards: Sequence[RuleCard]) -> list[str]:
    """Columns of the detail tables in which anything stands."""
    names = ("member", "row", "line", "column_no", "key", "value")
    several = len({finding["member"] for card in cards for finding in card.shown}) > 1
    return [
        name
        for name in names
        if (name != "member" or several) and any(f[name] is not None for card in cards for f in card.shown)
    ]
