"""The projector: folds the log into DuckDB, answers queries, watches for stuck batches."""
