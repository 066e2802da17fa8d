"""Training: batches, the loop, its objectives, several ranks, the collapse monitor, and classifiers on an encoder."""
