"""Detectors: what is in a clip, with nobody pointing at it."""
