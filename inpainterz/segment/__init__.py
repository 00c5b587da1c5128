"""From clicks in one frame to a mask."""
