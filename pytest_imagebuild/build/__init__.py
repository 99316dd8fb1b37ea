"""From a `Plan` to a built layer: what is missing is built, once, and kept under its key."""
