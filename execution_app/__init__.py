"""The machine: intents become transactions, fills become positions. It never knows who rang."""
