"""What runs on a device: training and measuring through the TFLite runtime."""
