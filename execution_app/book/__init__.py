"""What we hold: orders, fills, positions, prices."""
