"""A JAX function, or a Flax or Keras module on JAX, as a model."""
