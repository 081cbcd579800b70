"""The whole way, from dropped files to a release, checked against the simulator's truth and independent readers."""
