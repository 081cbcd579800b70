"""Grades: policies as data, compiled to SQL that explains every point."""

from etl.grading.plan import Statement, grading_plan
from etl.grading.policy import Policies, load_policies

__all__ = ["Policies", "Statement", "grading_plan", "load_policies"]
