"""Lesson 05's `--integrated`: the five lessons as one system, by what each defines."""
