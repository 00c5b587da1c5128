"""From frames with holes to frames without."""
