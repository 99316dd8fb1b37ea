"""From an `Image` to a `Plan`: layers with their definitions, build contexts and keys."""
