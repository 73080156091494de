"""Counts networks in files of other formats: ONNX, Keras and TensorFlow."""
