"""RMS norm, alone and fused with the residual addition."""
