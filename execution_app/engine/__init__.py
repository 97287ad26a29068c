"""The road to the chain: reserve, sign, broadcast, follow."""
