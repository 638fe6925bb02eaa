"""The commands, one module each: each parses arguments, builds the config and calls the library."""
