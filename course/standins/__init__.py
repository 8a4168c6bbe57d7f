"""What stands in for a server that is not there."""
