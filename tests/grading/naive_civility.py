"""Ballots and list items once more, as plainly as possible; part of the naive policy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from math import floor
from typing import Any

Rows = list[dict[str, Any]]


def counts_on(item: Mapping[str, Any], day: date) -> bool:
    """Whether a list item counts on a day: the law's endings, one after the other."""
    ended = item["event_to_on"]
    forgotten = ended is not None and (day.year - ended.year, day.month, day.day) > (5, ended.month, ended.day)
    undone = any(item[name] is not None and item[name] <= day for name in ("repaired_on", "revoked_on"))
    hidden = item["publication_until_on"] is not None and item["publication_until_on"] < day
    return item["event_from_on"] <= day and not (forgotten or undone or hidden)


class Reviews:
    """The civility review, ballot by ballot. `results` holds household -> score (None: no result) where a round was held."""

    def __init__(self, tables: Mapping[str, Rows], parameters: Mapping[str, int]) -> None:
        self.parameters = parameters
        self.ballots = self._ballots(tables)
        self.copiers = self._copiers()
        found: dict[str, list[tuple[str, Decimal | None]]] = defaultdict(list)
        for (round_, household), ballots in self._by_household().items():
            found[household].append((round_, self._score(round_, ballots)))
        for row in tables["previous_mart_civility_reviews"]:
            if row["round"] not in {round_ for round_, _ in found[row["household_key"]]}:
                found[row["household_key"]].append((row["round"], row["review_score"]))
        self.results = {household: self._latest(rounds) for household, rounds in found.items() if rounds}
        for row in tables["core_households"]:
            if row["household_key"] not in self.results and row["former_household_key"] in self.results:
                found[row["household_key"]] = found[row["former_household_key"]]
        self.results = {household: self._latest(rounds) for household, rounds in found.items() if rounds}

    @staticmethod
    def _latest(rounds: list[tuple[str, Decimal | None]]) -> Decimal | None:
        scores = sorted((round_, score) for round_, score in rounds if score is not None)
        return scores[-1][1] if scores else None

    @staticmethod
    def _ballots(tables: Mapping[str, Rows]) -> dict[tuple[str, str, str], Rows]:
        """(round, household, reviewer) -> its marks, those delivered last."""
        ballots: dict[tuple[str, str, str], Rows] = {}
        rows = [*tables["history_core_civility_ballots"], *tables["core_civility_ballots"]]
        for row in sorted(rows, key=lambda row: row["period"]):
            key = (row["round"], row["household_key"], row["reviewer_key"])
            known = ballots.get(key, [])
            ballots[key] = [*(one for one in known if one["period"] == row["period"]), row]
        return ballots

    def _copiers(self) -> set[tuple[str, str]]:
        """(round, reviewer) of identical ballots."""
        least = self.parameters["civility_copied_households"]
        books: dict[tuple[str, str], dict[str, tuple[int, ...]]] = defaultdict(dict)
        for (round_, household, reviewer), rows in self.ballots.items():
            if rows[0]["is_informed"]:
                marks = {row["dimension"]: row["mark"] for row in rows}
                books[round_, reviewer][household] = tuple(marks[name] for name in sorted(marks))
        found = {key for key, book in books.items() if len(book) >= least and len(set(book.values())) == 1}
        panels: dict[tuple[str, str], set[str]] = defaultdict(set)
        for (round_, reviewer), book in books.items():
            for household in book:
                panels[round_, household].add(reviewer)
        met = {(round_, *pair) for (round_, _), panel in panels.items() for pair in permutations(panel, 2)}
        for round_, one, other in met:
            mine, theirs = books[round_, one], books[round_, other]
            shared = mine.keys() & theirs.keys()
            if len(shared) >= least and all(mine[name] == theirs[name] for name in shared):
                found.add((round_, one))
        return found

    def _by_household(self) -> dict[tuple[str, str], list[tuple[str, Rows]]]:
        grouped: dict[tuple[str, str], list[tuple[str, Rows]]] = defaultdict(list)
        for (round_, household, reviewer), rows in self.ballots.items():
            grouped[round_, household].append((reviewer, rows))
        return grouped

    def _score(self, round_: str, ballots: list[tuple[str, Rows]]) -> Decimal | None:
        counted = [
            rows for reviewer, rows in ballots
            if rows[0]["is_informed"] and not rows[0]["is_own_family"] and (round_, reviewer) not in self.copiers
        ]  # fmt: skip
        if len(counted) < self.parameters["civility_minimum_reviewers"]:
            return None
        cut = floor(Fraction(len(counted) * self.parameters["civility_trim_pct"], 100))
        means = []
        for dimension in {row["dimension"] for row in counted[0]}:
            marks = sorted(row["mark"] for rows in counted for row in rows if row["dimension"] == dimension)
            kept = marks[cut : len(marks) - cut]
            means.append(Fraction(sum(kept), len(kept)))
        return Decimal(floor(sum(means) / len(means) * 1000)) / 100
