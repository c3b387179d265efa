"""Yardsticks that figures are compared with: PyTorch runners, limits of the machine, bounds."""
