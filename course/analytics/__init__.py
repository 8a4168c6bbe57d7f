"""What keeps lesson 05's classes alive: files in, fits, pictures and pages out."""
