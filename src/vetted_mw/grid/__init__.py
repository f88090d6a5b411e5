"""How carbon-intensive a grid zone is now."""
