"""The HTTP interface as a whole: its description for machines and people, and what no single view answers."""
