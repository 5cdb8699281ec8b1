"""Proof of the tables from the log: digests, checkpoints, verification, rebuild."""
