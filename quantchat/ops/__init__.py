"""Stored format x rows x device -> one operation; the only importer of quantchat.kernels."""
