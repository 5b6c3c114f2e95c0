"""A library of environments on this machine, and the draws that make each look and behave a little differently."""
