"""Graph rewrites that change no label: less arithmetic for the same answer."""
