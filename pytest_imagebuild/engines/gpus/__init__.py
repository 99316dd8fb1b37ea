"""The GPUs of a machine: which there are, which one asks for, who has which, and what a container needs for one."""
