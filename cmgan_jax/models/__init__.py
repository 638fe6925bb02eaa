"""Generator and discriminator, as Flax Linen modules."""
