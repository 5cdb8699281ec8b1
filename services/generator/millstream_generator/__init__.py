"""The generator: leases slices, calls models, appends what happened."""
