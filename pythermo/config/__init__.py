"""What defines a run, a sweep and a preset: checked, read from TOML and written as TOML."""
