"""Ours against the floor: the same input files, in one run, alternating, each in a process of its own."""
