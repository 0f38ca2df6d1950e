"""What is measured of images: functions that return numbers and tables rather than images."""
