"""The model: decoder, audio tower, codec."""
