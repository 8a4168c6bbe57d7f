"""What lesson 02 stands on: connecting, a private server, counting, the seed."""
