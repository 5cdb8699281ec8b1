"""Pure decisions: no I/O, no clock, no randomness, so that any history replays to one state."""
