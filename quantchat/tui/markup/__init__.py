"""Markdown to terminal lines, in pieces that can stream."""
