"""The contract between the services: events, subjects, commands and views (pydantic only)."""
