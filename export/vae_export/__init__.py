"""From a trained model to a bundle of ONNX graphs that are proven to match it."""
