"""What one request cost: energy model, figures, receipt. Pure."""
