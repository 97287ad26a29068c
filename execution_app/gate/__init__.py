"""May we? Mode, stop and caps, asked in the transaction that takes a nonce."""
