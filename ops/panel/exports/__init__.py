"""Files for accounting and tax: what was traded and what it cost, one mode in a file, nothing summed, nothing rounded."""
