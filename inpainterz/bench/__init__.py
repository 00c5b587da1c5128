"""What the networks cost: measured side by side with a plain way of computing the same."""
