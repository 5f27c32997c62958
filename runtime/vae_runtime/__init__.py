"""A variational autoencoder from its ONNX bundle, with numpy and onnxruntime alone."""
