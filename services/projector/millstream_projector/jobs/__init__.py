"""Long reads, in a process of their own on a copy: SQL and dataset export."""
