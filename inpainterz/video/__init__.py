"""Decode and encode: the only rooms that know about files and codecs."""
