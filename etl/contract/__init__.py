"""The contract layer: what a table is and must satisfy, compiled to casts, findings, suites, DDL and codebook."""
