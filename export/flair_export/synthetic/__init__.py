"""A drawn scene and a stand-in checkpoint, for where real ones are not at hand."""
