"""What stands behind `node/signers.py`: policy, journal, arithmetic of signatures, and where keys are."""
