"""Counting and profiling of any PyTorch, ONNX or Keras network."""
