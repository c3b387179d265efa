"""flair-engine: land-cover maps from aerial images."""
