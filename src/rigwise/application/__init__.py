"""Applications: components that hand items to each other, and the places they run on."""
