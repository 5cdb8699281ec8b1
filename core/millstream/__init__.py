"""The library under the services: domain, event log, runtime, and the command line."""
