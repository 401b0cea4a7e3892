"""Settings: schema as data, typed values, one TOML file."""
