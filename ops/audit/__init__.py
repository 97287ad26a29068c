"""The audit log from outside the machine: read, exported, verified."""
