"""Seeing: health, metrics, the request meter."""
