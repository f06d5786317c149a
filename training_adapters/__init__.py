"""What turns datasets into the batches, texts and losses of a trainer. One folder a trainer."""
