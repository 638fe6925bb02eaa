"""The operating system's side: files that are whole or absent, streams, signals, processor cores."""
