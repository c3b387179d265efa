"""Inference runtimes behind one small interface; nothing imports them but the chooser."""
