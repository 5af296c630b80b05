"""Student to ONNX to bundle."""
