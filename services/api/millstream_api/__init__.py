"""The API: commands, queries over request-reply, the SSE relay and the dashboard's files."""
