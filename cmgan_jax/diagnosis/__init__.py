"""What a training's records say of it: findings in words, from our own runs and from published logs. Imports no JAX."""
