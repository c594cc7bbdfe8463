"""Self-supervised learning of image representations in JAX."""
