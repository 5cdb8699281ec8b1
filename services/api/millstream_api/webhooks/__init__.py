"""Webhooks: kept in a bucket, delivered from the log by one API at a time."""
