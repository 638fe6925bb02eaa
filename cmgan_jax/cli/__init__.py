"""The commands, one module each: parse, build the config, call the library."""
