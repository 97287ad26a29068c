"""The operator's site: pages that show, and the switches Stop and Resume."""
