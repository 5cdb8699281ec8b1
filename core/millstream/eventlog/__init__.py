"""The event log on NATS JetStream: append with a fence, read, follow, lease work, stop."""
