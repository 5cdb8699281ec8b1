"""The queries over the read model as SQL."""
