"""The methods of papers, composed from search, losses and environments: one module each."""
