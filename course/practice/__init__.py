"""Exercises that judge: write it again, and find the bug."""
