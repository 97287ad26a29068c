"""The Telegram bot's process: so far it waits, and says why."""
