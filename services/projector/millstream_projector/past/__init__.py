"""The read model as it was at any sequence."""
