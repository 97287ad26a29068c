"""The Telegram bot: a process that polls, who may talk to it, and what it does and says (docs/telegram.md)."""
