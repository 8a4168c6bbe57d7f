"""What keeps lesson 04's classes alive on a bad day."""
