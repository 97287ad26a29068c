"""How this site writes times: one format, to the second, in UTC."""
