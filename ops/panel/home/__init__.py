"""The first page: whether money is safe, at a glance."""
