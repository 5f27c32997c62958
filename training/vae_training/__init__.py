"""Training of variational autoencoders with PyTorch."""
