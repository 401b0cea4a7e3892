"""Quality against the 16-bit model."""
