"""The relay: one fold of the log per process, shown live to any number of SSE clients."""
