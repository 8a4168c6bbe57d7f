"""What keeps the databases of lesson 01 alive, and what it measures on them."""
