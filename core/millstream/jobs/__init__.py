"""Jobs on a copy of the read model: a child process whose output is fetched piece by piece."""
