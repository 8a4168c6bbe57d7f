"""What the five lessons stand on; nobody needs to read it to follow a lesson."""
