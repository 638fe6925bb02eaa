"""What a training's records say of it: verdicts in words, from our own runs and from published logs. Imports no JAX."""
