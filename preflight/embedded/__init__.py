"""What runs inside a training process: a guard on live objects, and the recorder of what a run really took."""
