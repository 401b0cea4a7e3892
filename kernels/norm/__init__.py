"""RMS and layer norm, alone and fused with the residual addition."""
