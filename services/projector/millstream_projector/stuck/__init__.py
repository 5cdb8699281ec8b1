"""The watchdog: which batches are stuck, judged from the projection."""
