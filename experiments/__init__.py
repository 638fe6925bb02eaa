"""Entry points: parse, build the config, call the library."""
