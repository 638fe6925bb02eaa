"""CMGAN in JAX: a conformer generator and a metric discriminator that clean speech."""
