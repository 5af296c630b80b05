"""ECG-Scan, the teacher: image, signal and text in one space."""
