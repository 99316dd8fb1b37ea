"""The pure description of an image: the chain, its steps, the layers that they ask for. It describes and never acts."""
