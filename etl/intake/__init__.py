"""Intake: from a file in a drop zone to rows of strings, with an answer for everything that is wrong with the bytes."""
