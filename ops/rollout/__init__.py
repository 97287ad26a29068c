"""Going live: preflight, and the commands that make the first admin, traders and wallets."""
