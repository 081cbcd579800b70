"""Forensics: why a delivery looks the way it does, and what would mend it.

A finding says that a cell is no date; a diagnosis says that the whole column was saved as Excel's day numbers. It fires
only on evidence, which it states as rows, lines and shares; it never shows a cell, and never changes one: the repair is
proposed to the supplier, who delivers again. A clean delivery gets no diagnosis.
"""

from etl.intake.forensics.causes import Case, diagnose
from etl.intake.forensics.wording import TEXTS, Diagnosis

__all__ = ["TEXTS", "Case", "Diagnosis", "diagnose"]
