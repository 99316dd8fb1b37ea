"""The calls of a chain and the instructions that they become: a module for each kind, loaded by the first such call."""
