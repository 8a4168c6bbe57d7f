"""What keeps the caches of lesson 03 alive: clients, probing, codecs, scripts."""
