"""Theme files (TOML)."""
