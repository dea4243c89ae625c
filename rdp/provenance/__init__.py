"""What a finished study says of where it came from: the paper checklist, and a research object to give away."""
