"""A whole stack on this machine: embedded parts, a local chain with our own venue, its keeper."""
