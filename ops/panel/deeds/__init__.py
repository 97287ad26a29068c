"""What somebody may do on the site: each deed asks for a reason and a typed word, then presses the verb that commands press."""
