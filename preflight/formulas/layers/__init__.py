"""What the layers, the head and the attention of a model keep and need in passing."""
