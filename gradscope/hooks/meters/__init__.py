"""Meters reduce tensors of one device to rows of stored statistics; each way of doing it has a module."""
