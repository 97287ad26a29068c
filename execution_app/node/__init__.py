"""The windows to the outside: RPC endpoints, their errors, fees, signers."""
