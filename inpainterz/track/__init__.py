"""From masks in some frames to masks in all frames."""
