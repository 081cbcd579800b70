"""The contract layer: what a table is and must satisfy, compiled to casts, findings, expectations, DDL and a codebook."""
