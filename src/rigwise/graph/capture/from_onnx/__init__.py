"""An ONNX file as a model."""
