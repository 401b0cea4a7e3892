"""Models by name: catalog, what is on disk, downloads."""
