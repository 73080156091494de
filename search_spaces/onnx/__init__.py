"""Writing networks and blocks as ONNX models from their ops."""
