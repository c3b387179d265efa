"""Post-processing: what people make of a finished map with `flair-post`."""
