"""E2FGVI and E2FGVI-HQ: end-to-end flow-guided video inpainting, as an inpainter."""
