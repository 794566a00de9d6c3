"""What will be forgotten, and why: conflict, predicted change, stability of masks and circuits, drift."""
